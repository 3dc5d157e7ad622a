//! The terminal while it is ours.

use std::io;

use ratatui::DefaultTerminal;
use ratatui::layout::Size;

use super::app::App;
use super::draw::draw;

/// The terminal: its other screen, without echo and cursor. It is given back as it was when this goes, also by a panic.
pub(super) struct Screen(DefaultTerminal);

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// The system's word.
    pub(super) fn take() -> io::Result<Self> {
        // What a panic says is to be seen: ratatui's hook gives the terminal back before it is written.
        let terminal = ratatui::try_init().inspect_err(|_| ratatui::restore())?;
        Ok(Screen(terminal))
    }

    /// Columns and rows.
    pub(super) fn size(&self) -> io::Result<Size> {
        self.0.size()
    }

    /// Draws what is different.
    pub(super) fn draw(&mut self, app: &App) -> io::Result<()> {
        self.0.draw(|frame| draw(app, frame)).map(|_| ())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that has gone away needs nothing back.
        _ = self.0.show_cursor();
        _ = ratatui::try_restore();
    }
}
