//! The price table: what a million tokens of a model cost. Data; see `policies/prices.toml`.

use std::path::Path;

use clawstaff_types::ConnectorId;
use serde::Deserialize;

/// The table that comes with the program.
const BUILTIN: &str = include_str!("../../../../policies/prices.toml");
const MAX_FILE: u64 = 1 << 20;
/// Millionths of a dollar in a dollar, and tokens in the unit that is priced.
const MILLION: u64 = 1_000_000;

/// Every known price; the first row that fits counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Prices(Vec<Row>);

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    connector: ConnectorId,
    model: String,
    #[serde(deserialize_with = "micros")]
    input: u64,
    #[serde(deserialize_with = "micros")]
    output: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    price: Vec<Row>,
}

/// The price table cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the price table `{path}` cannot be used: {why}")]
pub struct PricesError {
    path: String,
    why: String,
}

/// What a model's tokens cost: millionths of a dollar for a million of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Price {
    input: u64,
    output: u64,
}

impl Price {
    /// What so many tokens cost, in millionths of a dollar, rounded up.
    pub(crate) fn of(self, input: u64, output: u64) -> u64 {
        let cost = |tokens: u64, price: u64| u128::from(tokens) * u128::from(price);
        let all = cost(input, self.input) + cost(output, self.output);
        u64::try_from(all.div_ceil(u128::from(MILLION))).unwrap_or(u64::MAX)
    }
}

impl Prices {
    /// The rows of the operator's file, if there is one, and after them those that come with the program.
    ///
    /// # Errors
    /// When a file is there and is not a price table: reckoning without it could spend more than was meant.
    pub(crate) fn load(path: &Path) -> Result<Self, PricesError> {
        let wrong = |why: String| PricesError {
            path: path.display().to_string(),
            why,
        };
        let own = crate::inbox::read_if_present(path, MAX_FILE).map_err(|error| wrong(error.to_string()))?;
        let own =
            String::from_utf8(own.unwrap_or_default()).map_err(|_| wrong("it is not UTF-8".to_owned()))?;
        let own: File = toml::from_str(&own).map_err(|error| wrong(error.to_string()))?;
        let builtin: File = toml::from_str(BUILTIN).map_err(|error| PricesError {
            path: "policies/prices.toml".to_owned(),
            why: error.to_string(),
        })?;
        Ok(Self(own.price.into_iter().chain(builtin.price).collect()))
    }

    /// The price of a model, if it is known.
    pub(crate) fn of(&self, connector: &ConnectorId, model: &str) -> Option<Price> {
        let fits = |row: &&Row| {
            row.connector == *connector
                && match row.model.strip_suffix('*') {
                    Some(prefix) => model.starts_with(prefix),
                    None => row.model == model,
                }
        };
        self.0.iter().find(fits).map(|row| Price {
            input: row.input,
            output: row.output,
        })
    }
}

/// Dollars as a table says them, in millionths.
fn micros<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let dollars = f64::deserialize(deserializer)?;
    if !(0.0..=1e6).contains(&dollars) {
        return Err(serde::de::Error::custom(
            "a price is between 0 and 1000000 dollars",
        ));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bounded to 0 ..= 10^12 just above"
    )]
    Ok((dollars * 1e6).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_rows_come_first_and_unknown_models_have_no_price() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("prices.toml");
        let anthropic: ConnectorId = "anthropic".parse().unwrap();
        let builtin = Prices::load(&path).unwrap();
        assert!(builtin.of(&anthropic, "claude-sonnet-4-5").is_some());
        assert_eq!(builtin.of(&anthropic, "no-such-model"), None);
        let row = "[[price]]\nconnector = \"anthropic\"\nmodel = \"claude-*\"\ninput = 1.5\noutput = 2\n";
        std::fs::write(&path, row).unwrap();
        let own = Prices::load(&path)
            .unwrap()
            .of(&anthropic, "claude-sonnet-4-5")
            .unwrap();
        assert_eq!(own.of(1_000_000, 500_000), 2_500_000);
        assert_eq!(own.of(1, 0), 2, "rounded up");
        for bad in [
            "[[price]]\nmodel = \"x\"\n",
            "[[price]]\nconnector = \"a\"\nmodel = \"x\"\ninput = -1\noutput = 1\n",
            "nonsense",
        ] {
            std::fs::write(&path, bad).unwrap();
            assert!(Prices::load(&path).is_err(), "{bad}");
        }
    }
}
