//! What is asked of the daemon, and what it answers.

use std::path::Path;

use agent::api::{self, ClientError, Drops, DropsQuery, GroupEntry, PageQuery, PortEntry, PortPage, Status};

/// What is to be asked.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct Questions {
    /// The status, and the drops sampled after this one.
    pub(super) numbers: Option<u64>,
    /// The page of ports in sight.
    pub(super) page: Option<PageQuery>,
    /// The next page of a search.
    pub(super) walk: Option<PageQuery>,
    /// One port, by its id or the name of its interface.
    pub(super) port: Option<String>,
    /// Groups whose names, or ids, are not known.
    pub(super) groups: Vec<String>,
}

/// What came of it; nothing of what was not asked.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) status: Option<Result<Status, ClientError>>,
    pub(super) drops: Option<Result<Drops, ClientError>>,
    pub(super) page: Option<Result<PortPage, ClientError>>,
    pub(super) walk: Option<Result<PortPage, ClientError>>,
    pub(super) port: Option<Result<Vec<PortEntry>, ClientError>>,
    pub(super) groups: Vec<GroupEntry>,
}

/// Asks, one after the other: the daemon's loop is not to be kept by us. Where the first has no answer, no other is asked.
pub(super) async fn ask(socket: &Path, questions: Questions) -> (Questions, Answers) {
    let mut answers = Answers::default();
    if let Some(after) = questions.numbers {
        let status = api::status(socket).await;
        let is_there = status.is_ok();
        answers.status = Some(status);
        if !is_there {
            return (questions, answers);
        }
        let query = DropsQuery { after: Some(after), ..DropsQuery::default() };
        answers.drops = Some(api::drops(socket, &query).await);
    }
    if let Some(query) = &questions.page {
        answers.page = Some(api::ports_page(socket, query).await);
    }
    if let Some(query) = &questions.walk {
        answers.walk = Some(api::ports_page(socket, query).await);
    }
    if let Some(port) = &questions.port {
        answers.port = Some(api::ports(socket, Some(port)).await);
    }
    for group in &questions.groups {
        // It is called by its id if it has no name, or has gone.
        answers.groups.extend(api::groups(socket, Some(group)).await.unwrap_or_default());
    }
    (questions, answers)
}
