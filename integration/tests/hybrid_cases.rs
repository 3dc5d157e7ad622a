//! Every page of `flows/cases` on a host with hybrid bridges, filtered by each driver for them, behind a switch that knows its stations and
//! behind one that floods. Needs root.

use std::path::Path;

use integration::{IptablesLegacy, IptablesNft, NftablesAlone, Switch, holds_on_hybrid};

fn iptables_nft(path: &Path, page: String) -> datatest_stable::Result<()> {
    Ok(holds_on_hybrid::<IptablesNft>(path, &page, Switch::Floods).map_err(|error| error.to_string())?)
}

fn iptables_legacy(path: &Path, page: String) -> datatest_stable::Result<()> {
    Ok(holds_on_hybrid::<IptablesLegacy>(path, &page, Switch::Knows).map_err(|error| error.to_string())?)
}

fn nftables(path: &Path, page: String) -> datatest_stable::Result<()> {
    Ok(holds_on_hybrid::<NftablesAlone>(path, &page, Switch::Floods).map_err(|error| error.to_string())?)
}

datatest_stable::harness! {
    { test = iptables_nft, root = "../flows/cases", pattern = r"\.md$" },
    { test = iptables_legacy, root = "../flows/cases", pattern = r"\.md$" },
    { test = nftables, root = "../flows/cases", pattern = r"\.md$" },
}
