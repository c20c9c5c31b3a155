//! The catalogue against recordings of real patients.
//!
//! They stand beside the project, in `../shared/data`, and are not part of it; where they are absent the tests say so.

#[cfg(test)]
mod tests {
    use std::path::Path;

    use schemas::metric::Metric;
    use schemas::unit;

    /// (metric, value in the canonical unit) of every row that has a value, or `None` where the file is absent.
    fn rows(file: &str) -> Option<Vec<(Metric, f64)>> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../shared/data")
            .join(file);
        let Ok(text) = std::fs::read_to_string(&path) else {
            eprintln!("NOT RUN: {} is absent", path.display());
            return None;
        };
        let row = |line: &str| {
            let fields: Vec<&str> = line.split(',').collect();
            let metric = Metric::parse(fields[3]).expect("a metric");
            let value = fields[4].parse().expect("a number");
            (
                metric,
                unit::convert(metric, value, fields[5]).expect("a unit that is understood"),
            )
        };
        Some(
            text.lines()
                .skip(1)
                .filter(|line| !line.contains(",,"))
                .map(row)
                .collect(),
        )
    }

    #[test]
    fn real_values_are_possible_and_real_artefacts_are_not() {
        let Some(rows) = rows("icu_readings.csv") else { return };
        let (possible, refused): (Vec<_>, Vec<_>) = rows
            .iter()
            .partition(|(metric, value)| metric.info().possible.contains(*value));
        let share = refused.len() as f64 / rows.len() as f64;
        assert!(
            (0.002..0.003).contains(&share),
            "{} of {} refused",
            refused.len(),
            rows.len()
        );
        assert!(refused.iter().filter(|(_, value)| *value == 0.0).count() * 2 > refused.len());
        assert!(possible.iter().all(|(_, value)| *value > 0.0));
        let usual = possible
            .iter()
            .filter(|(metric, value)| metric.info().usual.contains(*value));
        assert!(usual.count() as f64 / possible.len() as f64 > 0.99);
    }

    #[test]
    fn every_value_of_a_worn_glucose_sensor_is_possible() {
        let Some(rows) = rows("glucose.csv") else { return };
        for (metric, value) in rows {
            assert!(metric.info().possible.contains(value), "{metric} {value}");
        }
    }
}
