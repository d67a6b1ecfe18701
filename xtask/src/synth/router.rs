//! Routers whose choices look like those of a trained model: no expert is idle, some are popular,
//! and each layer has its own favourites.

use super::random::Stream;

/// How much rows differ in length: a logit is as wide as its row is long, and wide ones are more
/// often among the largest.
const SPREAD: f32 = 0.4;

/// Rows of the router; `dims` are elements of a row and experts.
///
/// Values have the deviation 1/sqrt(elements) times a factor of the row: 1 plus `SPREAD` times a
/// normal number.
pub(crate) fn rows(normal: &[f32], stream: Stream, dims: &[u64]) -> Vec<f32> {
    let (columns, experts) = (dims[0], dims[1]);
    let sample = |index: u64| normal[usize::from(stream.at(index) as u16)];
    let deviation = 1.0 / (columns as f32).sqrt();
    let mut rows = Vec::with_capacity((columns * experts) as usize);
    for expert in 0..experts {
        let factor = 1.0 + SPREAD * sample(expert).clamp(-2.0, 2.0);
        let first = experts + expert * columns;
        rows.extend((first..first + columns).map(|index| deviation * factor * sample(index)));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::super::random::normal_table;
    use super::*;

    /// Experts of each token, for tokens whose normalised rows are independent.
    fn picks(columns: u64, experts: u64, used: usize, tokens: u64) -> Vec<Vec<usize>> {
        let normal = normal_table();
        let router = rows(&normal, Stream::new(1, "router"), &[columns, experts]);
        let states = Stream::new(2, "states");
        let pick = |token: u64| {
            let at = |column| normal[usize::from(states.at(token * columns + column) as u16)];
            let state: Vec<f32> = (0..columns).map(at).collect();
            let rows = router.chunks_exact(columns as usize);
            let dot = |row: &[f32]| row.iter().zip(&state).map(|(a, b)| a * b).sum::<f32>();
            let mut logits: Vec<(f32, usize)> = rows.map(dot).zip(0..).collect();
            logits.sort_by(|a, b| b.0.total_cmp(&a.0));
            logits[..used].iter().map(|logit| logit.1).collect()
        };
        (0..tokens).map(pick).collect()
    }

    #[test]
    fn choices_are_skewed_but_spread() {
        for (columns, experts, used) in [(2048, 64, 8), (256, 16, 4)] {
            let picks = picks(columns, experts, used, 1000);
            let mut counts = vec![0f64; experts as usize];
            for expert in picks.iter().flatten() {
                counts[*expert] += 1.0;
            }
            let total = (1000 * used) as f64;
            let entropy: f64 = counts
                .iter()
                .filter(|count| **count > 0.0)
                .map(|count| -(count / total) * (count / total).log2())
                .sum();
            counts.sort_by(|a, b| b.total_cmp(a));
            let hottest = counts[..experts as usize / 4].iter().sum::<f64>() / total;
            let shared = picks
                .windows(2)
                .map(|two| {
                    two[0]
                        .iter()
                        .filter(|expert| two[1].contains(expert))
                        .count()
                })
                .sum::<usize>() as f64
                / total;
            let most = (experts as f64).log2();
            assert!(entropy > 0.85 * most && entropy < 0.995 * most, "{entropy}");
            assert!(hottest > 0.3 && hottest < 0.6, "{hottest}");
            assert!(shared < 0.45, "{shared}");
        }
    }
}
