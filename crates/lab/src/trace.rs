//! What `ofproto/trace` prints.

/// The text of one trace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trace {
    text: String,
}

impl Trace {
    pub(crate) fn new(text: String) -> Self {
        Self { text }
    }

    /// All of it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The actions on the datapath at the end of the last stage: after each `ct()` with a table a trace goes on with the
    /// recirculated packet and prints a line of actions for each stage.
    #[must_use]
    pub fn datapath_actions(&self) -> Option<&str> {
        self.values("Datapath actions: ").last()
    }

    /// The megaflow of the last stage: the fields that the verdict depended on.
    #[must_use]
    pub fn megaflow(&self) -> Option<&str> {
        self.values("Megaflow: ").last()
    }

    /// Whether the last stage drops the frame.
    #[must_use]
    pub fn is_dropped(&self) -> bool {
        self.datapath_actions() == Some("drop")
    }

    fn values<'a>(&'a self, label: &'static str) -> impl Iterator<Item = &'a str> {
        self.text.lines().filter_map(move |line| line.strip_prefix(label))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_stage_decides() {
        let text = "Flow: tcp\n\nMegaflow: a\nDatapath actions: ct(zone=5),recirc(0x1)\n====\nMegaflow: b\nDatapath actions: drop";
        let trace = Trace::new(text.to_owned());
        assert_eq!((trace.megaflow(), trace.datapath_actions()), (Some("b"), Some("drop")));
        assert!(trace.is_dropped());
        assert_eq!(Trace::new(String::new()).datapath_actions(), None);
    }
}
