//! Reads a process's environment once and reports everything that is wrong with it at once.

use std::{collections::HashMap, fmt, fmt::Display, str::FromStr, time::Duration};

/// One variable and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The variable.
    pub variable: String,
    /// What is wrong, in words.
    pub problem: String,
}

/// Everything that is wrong with the environment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    /// In the order in which they were read.
    pub faults: Vec<Fault>,
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} fault(s)", self.faults.len())?;
        for fault in &self.faults {
            write!(f, "\n  {}: {}", fault.variable, fault.problem)?;
        }
        Ok(())
    }
}

/// The environment, and the faults found in it so far.
///
/// Readers of required values answer a placeholder when the value is missing or wrong, so that the
/// rest is read as well; [`Env::finish`] then refuses.
#[derive(Debug)]
pub struct Env {
    values: HashMap<String, String>,
    faults: Vec<Fault>,
}

impl Env {
    /// The environment of this process. A value that is not UTF-8 is a fault.
    pub fn from_process() -> Self {
        let mut env = Self {
            values: HashMap::new(),
            faults: Vec::new(),
        };
        for (name, value) in std::env::vars_os() {
            let Some(name) = name.to_str().map(str::to_owned) else {
                continue;
            };
            match value.into_string() {
                Ok(value) => drop(env.values.insert(name, value)),
                // Somebody else's variables may be as they like.
                Err(_) if name.starts_with("CANDLEFISH_") => env.fault(&name, "is not UTF-8"),
                Err(_) => {}
            }
        }
        env
    }

    /// An environment of these variables alone.
    pub fn from_pairs<K: Into<String>, V: Into<String>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let values = pairs
            .into_iter()
            .map(|(k, v)| (k.into(), v.into()))
            .collect();
        Self {
            values,
            faults: Vec::new(),
        }
    }

    /// The value of a variable that must be set; an empty one counts as missing.
    pub fn required(&mut self, name: &str) -> String {
        self.optional(name).unwrap_or_else(|| {
            self.fault(name, "must be set");
            String::new()
        })
    }

    /// The value of a variable that need not be set; an empty one counts as missing.
    pub fn optional(&mut self, name: &str) -> Option<String> {
        self.values
            .get(name)
            .filter(|value| !value.is_empty())
            .cloned()
    }

    /// The parsed value, or `default` when the variable is not set.
    pub fn parse_or<T>(&mut self, name: &str, default: T) -> T
    where
        T: FromStr,
        T::Err: Display,
    {
        match self.optional(name).map(|value| value.parse()) {
            None => default,
            Some(Ok(value)) => value,
            Some(Err(problem)) => {
                self.fault(name, problem);
                default
            }
        }
    }

    /// The parsed value of a variable that must be set; nothing when it is missing or wrong.
    pub fn parse_required<T>(&mut self, name: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        let value = self.optional(name);
        match value.as_deref().map(str::parse) {
            Some(Ok(value)) => return Some(value),
            Some(Err(problem)) => self.fault(name, problem),
            None => self.fault(name, "must be set"),
        }
        None
    }

    /// A duration given in milliseconds, or `default_ms` when the variable is not set. Zero is a
    /// fault: no period, lease or timeout may be none.
    pub fn duration_ms_or(&mut self, name: &str, default_ms: u64) -> Duration {
        let ms = self.parse_or(name, default_ms);
        if ms == 0 {
            self.fault(name, "must be at least 1 (milliseconds)");
        }
        Duration::from_millis(ms)
    }

    /// Notes a fault that only the reader of the value can see.
    pub fn fault(&mut self, name: &str, problem: impl Display) {
        self.faults.push(Fault {
            variable: name.to_owned(),
            problem: problem.to_string(),
        });
    }

    /// Ends the reading: an error that lists every fault, when there is one.
    pub fn finish(self) -> Result<(), Error> {
        if self.faults.is_empty() {
            Ok(())
        } else {
            Err(Error {
                faults: self.faults,
            })
        }
    }
}

/// An address without what may be secret in it: who logs in, and what follows `?`.
pub fn without_secrets(address: &str) -> &str {
    let (place, _parameters) = address.split_once('?').unwrap_or((address, ""));
    match place.rsplit_once('@') {
        Some((_login, host)) => host,
        // A secret that is not encoded as it must be may hold anything.
        None if address.contains('@') => "(not shown)",
        None => place,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_faults_are_reported_at_once() {
        let mut env = Env::from_pairs([("PORT", "many"), ("EMPTY", ""), ("LEASE_MS", "0")]);
        assert_eq!(env.parse_or::<u16>("PORT", 7), 7);
        env.required("EMPTY");
        env.required("MISSING");
        env.duration_ms_or("LEASE_MS", 15_000);
        let error = env.finish().unwrap_err();
        let named: Vec<_> = error.faults.iter().map(|f| f.variable.as_str()).collect();
        assert_eq!(named, ["PORT", "EMPTY", "MISSING", "LEASE_MS"]);
        assert!(error.to_string().contains("PORT: invalid digit"), "{error}");
    }

    #[test]
    fn values_that_are_set_are_taken_and_others_have_defaults() {
        let mut env = Env::from_pairs([("PORT", "81"), ("NAME", "docs"), ("LEASE_MS", "1000")]);
        assert_eq!(env.parse_or::<u16>("PORT", 7), 81);
        assert_eq!(env.parse_or::<u16>("OTHER_PORT", 7), 7);
        assert_eq!(env.required("NAME"), "docs");
        assert_eq!(env.optional("NICKNAME"), None);
        assert_eq!(env.parse_required::<u16>("PORT"), Some(81));
        assert_eq!(
            env.duration_ms_or("LEASE_MS", 15_000),
            Duration::from_secs(1)
        );
        assert_eq!(env.finish(), Ok(()));
    }

    #[test]
    fn an_address_is_shown_without_who_logs_in() {
        for (address, expected) in [
            ("postgres://gateway:secret@db:5432/main", "db:5432/main"),
            (
                "postgres://gateway:sec@ret@db/main?sslmode=require",
                "db/main",
            ),
            (
                "postgres://db/main?user=gateway&password=secret",
                "postgres://db/main",
            ),
            ("postgres://db/main?password=sec@ret", "(not shown)"),
            ("postgres://gateway:sec?ret@db/main", "(not shown)"),
            ("nats://127.0.0.1:4222", "nats://127.0.0.1:4222"),
            ("gateway:secret@127.0.0.1:4222", "127.0.0.1:4222"),
        ] {
            assert_eq!(without_secrets(address), expected, "{address}");
        }
    }
}
