//! A few things with a part of the traffic each: the levels of a service, the groups of a level.

/// Parts, ready to be drawn from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parts {
    /// The sum of the parts up to each and with it.
    ends: Vec<u64>,
    /// The one that has all of it.
    only: Option<usize>,
}

impl Parts {
    pub(crate) fn new(parts: impl IntoIterator<Item = u64>) -> Self {
        let (mut sum, mut last, mut several) = (0_u64, None, false);
        let mut ends = Vec::new();
        for (at, part) in parts.into_iter().enumerate() {
            if part > 0 {
                several |= last.replace(at).is_some();
            }
            sum = sum.saturating_add(part);
            ends.push(sum);
        }
        Self { ends, only: last.filter(|_| !several) }
    }

    /// One of them, by a number below the sum of all; it is only asked for if there is a choice.
    pub(crate) fn choose(&self, below: impl FnOnce(u64) -> u64) -> Option<usize> {
        if self.only.is_some() {
            return self.only;
        }
        let sum = self.ends.last().copied().filter(|sum| *sum > 0)?;
        let point = below(sum);
        Some(self.ends.partition_point(|end| *end <= point))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_is_as_wide_as_it_is_large() {
        for (parts, want) in [(vec![], ""), (vec![0, 0], ""), (vec![2, 0, 3], "00222"), (vec![0, 1, 1], "12")] {
            let drawn = Parts::new(parts.clone());
            let sum: u64 = parts.iter().sum();
            let text: String = (0..sum).map(|point| drawn.choose(|_| point).unwrap().to_string()).collect();
            assert_eq!(text, want, "{parts:?}");
        }
        assert_eq!(Parts::new([0, 0]).choose(|_| 0), None);
    }

    #[test]
    fn nothing_is_drawn_where_there_is_no_choice() {
        let unasked = |_| unreachable!("there is no choice");
        assert_eq!(Parts::new([0, 7, 0]).choose(unasked), Some(1));
        assert_eq!(Parts::new([]).choose(unasked), None);
    }
}
