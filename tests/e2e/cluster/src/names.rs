//! The name of a cluster, and every name that follows from it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Error, ensure};

/// The longest name: with it, the sockets below a usual home folder stay under the kernel's limit.
const LONGEST: usize = 20;

/// A cluster's name: at most 20 of `a-z`, `0-9` and `-`, neither beginning nor ending with `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The network namespace, as `ip netns` knows it.
    pub fn netns(&self) -> String {
        format!("postern-{}", self.0)
    }

    /// The file that holds the network namespace, for `nsenter --net=`.
    pub fn netns_path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(self.netns())
    }

    /// The network namespace of the peer outside. No cluster's name has a dot in it.
    pub fn outside(&self) -> String {
        format!("postern-{}.outside", self.0)
    }

    /// The file that holds the network namespace of the peer outside.
    pub fn outside_path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(self.outside())
    }

    /// The cgroup below which the kubelet keeps its pods, without a leading slash.
    pub fn cgroup(&self) -> String {
        format!("postern-{}", self.0)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        ensure!(
            !text.is_empty() && text.len() <= LONGEST,
            "a cluster's name has 1 to {LONGEST} characters, {text:?} has {}",
            text.len()
        );
        ensure!(
            text.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !text.starts_with('-')
                && !text.ends_with('-'),
            "a cluster's name holds a-z, 0-9 and, inside, -: {text:?} does not fit"
        );
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::Name;

    #[test]
    fn names_follow() {
        let name: Name = "team-a1".parse().unwrap();
        assert_eq!(name.netns(), "postern-team-a1");
        assert_eq!(name.cgroup(), "postern-team-a1");
        assert_eq!(
            name.netns_path().to_str().unwrap(),
            "/run/netns/postern-team-a1"
        );
        assert_eq!(name.to_string(), "team-a1");
    }

    #[test]
    fn what_could_leave_the_folder_is_refused() {
        for bad in [
            "",
            "-",
            "a-",
            "-a",
            "A",
            "a/b",
            "..",
            ".",
            "a b",
            "a\n",
            "ä",
            "123456789012345678901",
        ] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?} was taken");
        }
        for good in ["a", "0", "a--b", "12345678901234567890"] {
            assert!(good.parse::<Name>().is_ok(), "{good:?} was refused");
        }
    }
}
