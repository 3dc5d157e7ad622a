//! The fewest prefixes that hold exactly the same addresses as some others do.

use std::collections::BTreeSet;

use ipnet::IpNet;

/// What is to be changed in a set. Who adds first and removes then never lacks what is there before and after.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Edit {
    pub(crate) add: Vec<IpNet>,
    pub(crate) remove: Vec<IpNet>,
}

/// Prefixes, and those that hold the same addresses: no two of these overlap, and no two are the halves of a third. A change costs what
/// lies in its prefix and around it, not the set.
#[derive(Clone, Default, Debug)]
pub(crate) struct Cover {
    held: BTreeSet<IpNet>,
    cover: BTreeSet<IpNet>,
}

impl Cover {
    /// One more is held.
    pub(crate) fn add(&mut self, net: IpNet) -> Edit {
        self.held.insert(net);
        if covering(&self.cover, net).is_some() {
            return Edit::default();
        }
        let mut remove: Vec<IpNet> = within(&self.cover, net).collect();
        let mut whole = net;
        while let Some((sibling, parent)) = sibling_and_parent(whole)
            && self.cover.contains(&sibling)
        {
            remove.push(sibling);
            whole = parent;
        }
        for net in &remove {
            self.cover.remove(net);
        }
        self.cover.insert(whole);
        Edit { add: vec![whole], remove }
    }

    /// One is held no more.
    pub(crate) fn remove(&mut self, net: IpNet) -> Edit {
        if !self.held.remove(&net) || covering(&self.held, net).is_some() {
            return Edit::default();
        }
        let Some(whole) = covering(&self.cover, net) else { return Edit::default() };
        let mut left = Cover::default();
        for inside in within(&self.held, net) {
            left.add(inside);
        }
        if left.cover.contains(&net) {
            return Edit::default();
        }
        let mut add: Vec<IpNet> = left.cover.into_iter().collect();
        let mut part = net;
        while part != whole
            && let Some((sibling, parent)) = sibling_and_parent(part)
        {
            add.push(sibling);
            part = parent;
        }
        self.cover.remove(&whole);
        self.cover.extend(add.iter().copied());
        Edit { add, remove: vec![whole] }
    }
}

/// The largest one that holds all of `net`, itself included.
fn covering(nets: &BTreeSet<IpNet>, net: IpNet) -> Option<IpNet> {
    (0..=net.prefix_len()).find_map(|length| {
        let larger = IpNet::new(net.addr(), length).expect("not longer than the one that is there").trunc();
        nets.contains(&larger).then_some(larger)
    })
}

/// Those that lie in `net`, itself included.
fn within(nets: &BTreeSet<IpNet>, net: IpNet) -> impl Iterator<Item = IpNet> {
    // By address first, the shorter prefix first.
    let last = IpNet::from(net.broadcast());
    nets.range(net..=last).copied()
}

/// The other half of the prefix that `net` is a half of, and that prefix.
fn sibling_and_parent(net: IpNet) -> Option<(IpNet, IpNet)> {
    let parent = net.supernet()?;
    let mut halves = parent.subnets(net.prefix_len()).expect("its halves are longer than it");
    let sibling = halves.find(|half| *half != net).expect("there are two");
    Some((sibling, parent))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn cover(nets: &[&str]) -> Vec<String> {
        let mut cover = Cover::default();
        for text in nets {
            cover.add(net(text));
        }
        cover.cover.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn neighbours_are_one_prefix_and_what_is_held_already_is_none() {
        assert_eq!(cover(&["10.0.0.0/32", "10.0.0.1/32"]), ["10.0.0.0/31"]);
        assert_eq!(cover(&["10.0.0.1/32", "10.0.0.2/32"]), ["10.0.0.1/32", "10.0.0.2/32"]);
        assert_eq!(cover(&["10.0.0.0/32", "10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/30"]), ["10.0.0.0/29"]);
        assert_eq!(cover(&["10.0.0.0/8", "10.1.2.3/32"]), ["10.0.0.0/8"]);
        assert_eq!(cover(&["10.1.2.3/32", "10.0.0.0/8", "11.0.0.0/8"]), ["10.0.0.0/7"]);
        assert_eq!(cover(&["::/1", "8000::/1", "0.0.0.0/1"]), ["0.0.0.0/1", "::/0"]);
    }

    #[test]
    fn one_address_less_splits_what_it_lies_in() {
        let mut cover = Cover::default();
        for last in 0..4 {
            cover.add(net(&format!("10.0.0.{last}/32")));
        }
        let edit = cover.remove(net("10.0.0.1/32"));
        assert_eq!(edit.remove, [net("10.0.0.0/30")]);
        assert_eq!(edit.add, [net("10.0.0.0/32"), net("10.0.0.2/31")]);
        // Who is held twice over stays.
        cover.add(net("10.0.0.2/31"));
        assert_eq!(cover.remove(net("10.0.0.3/32")), Edit::default());
    }

    /// Prefixes of the last four bits of an address.
    fn small() -> impl Strategy<Value = IpNet> {
        (0u8..16, 28u8..=32).prop_map(|(last, length)| {
            IpNet::new(std::net::Ipv4Addr::new(10, 0, 0, last).into(), length).unwrap().trunc()
        })
    }

    fn addresses<'n>(nets: impl IntoIterator<Item = &'n IpNet>) -> BTreeSet<std::net::IpAddr> {
        // All addresses of a prefix, the network's own and the broadcast's included.
        let of = |net: &IpNet| {
            (0..16)
                .map(|last| std::net::Ipv4Addr::new(10, 0, 0, last).into())
                .filter(|a| net.contains(a))
                .collect::<Vec<_>>()
        };
        nets.into_iter().flat_map(of).collect()
    }

    proptest! {
        #[test]
        fn it_holds_the_same_and_no_two_could_be_one(steps in proptest::collection::vec((small(), any::<bool>()), 0..40)) {
            let mut cover = Cover::default();
            let (mut held, mut told) = (BTreeSet::new(), BTreeSet::new());
            for (net, comes) in steps {
                let edit = if comes { held.insert(net); cover.add(net) } else { held.remove(&net); cover.remove(net) };
                for add in &edit.add { prop_assert!(told.insert(*add), "{add} is there"); }
                for remove in &edit.remove { prop_assert!(told.remove(remove), "{remove} is not there"); }
                prop_assert_eq!(&told, &cover.cover);
                prop_assert_eq!(addresses(&told), addresses(&held));
                for one in &told {
                    let (sibling, _) = sibling_and_parent(*one).unwrap();
                    prop_assert!(!told.contains(&sibling));
                    prop_assert!(told.iter().all(|other| other == one || !other.contains(one)));
                }
            }
        }
    }
}
