//! Vectors of memories, where an embedding model gives them: one byte a dimension, compared by their angle.

/// Vectors of an index's rows. Those of rows that have none yet say nothing.
#[derive(Debug, Default)]
pub(super) struct Vectors {
    dimensions: usize,
    /// Of row after row, each scaled so that its largest part is 127.
    parts: Vec<i8>,
    /// One over the length of each, in units of its parts; 0: none; below: none is to be had.
    scales: Vec<f32>,
}

/// In the place of a scale, where none is to be had.
const UNUSABLE: f32 = -1.0;

impl Vectors {
    const DIMENSIONS_MAX: usize = 8192;

    /// False for one of another length than the first, and for one that points nowhere.
    pub(super) fn set(&mut self, row: u32, vector: &[f32]) -> bool {
        let Some((parts, scale)) = small(vector) else {
            return false;
        };
        if self.dimensions == 0 && is_usable(vector) {
            self.dimensions = vector.len();
            self.parts.resize(self.scales.len() * self.dimensions, 0);
        }
        if vector.len() != self.dimensions {
            return false;
        }
        let row = self.room_for(row);
        self.scales[row] = scale;
        self.parts[row * self.dimensions..][..self.dimensions].copy_from_slice(&parts);
        true
    }

    fn room_for(&mut self, row: u32) -> usize {
        let row = row as usize;
        if self.scales.len() <= row {
            self.scales.resize(row + 1, 0.0);
            self.parts.resize((row + 1) * self.dimensions, 0);
        }
        row
    }

    /// None is to be had for this row, and nobody is to ask again.
    pub(super) fn give_up(&mut self, row: u32) {
        let row = self.room_for(row);
        self.scales[row] = UNUSABLE;
    }

    /// The length of all of them; none if there are none.
    pub(super) fn dimensions(&self) -> Option<usize> {
        (self.dimensions > 0).then_some(self.dimensions)
    }

    /// Whether it has one, or none is to be had.
    pub(super) fn is_settled(&self, row: u32) -> bool {
        self.scales
            .get(row as usize)
            .is_some_and(|scale| *scale != 0.0)
    }

    pub(super) fn remove(&mut self, row: u32) {
        if let Some(scale) = self.scales.get_mut(row as usize) {
            *scale = 0.0;
        }
    }

    /// How near each row's is to `vector`, −1 to 1; None for rows without one, and for all if it is of another length.
    pub(super) fn compare<'a>(
        &'a self,
        vector: &[f32],
    ) -> Option<impl Fn(u32) -> Option<f32> + 'a> {
        let (query, query_scale) = small(vector).filter(|_| vector.len() == self.dimensions)?;
        Some(move |row: u32| {
            let scale = *self.scales.get(row as usize)?;
            if scale <= 0.0 {
                return None;
            }
            let parts = self
                .parts
                .get(row as usize * self.dimensions..)?
                .get(..self.dimensions)?;
            let pairs = parts.iter().zip(&query);
            let product: i32 = pairs.map(|(a, b)| i32::from(*a) * i32::from(*b)).sum();
            Some(product as f32 * scale * query_scale)
        })
    }

    pub(super) fn bytes(&self) -> usize {
        self.parts.capacity() + self.scales.capacity() * size_of::<f32>()
    }
}

/// Whether it points somewhere, and is as long as any model's.
pub(super) fn is_usable(vector: &[f32]) -> bool {
    vector.len() <= Vectors::DIMENSIONS_MAX && small(vector).is_some()
}

/// A vector in bytes, and one over their length.
fn small(vector: &[f32]) -> Option<(Vec<i8>, f32)> {
    let largest = vector
        .iter()
        .fold(0.0_f32, |largest, part| largest.max(part.abs()));
    if !largest.is_normal() || !vector.iter().all(|part| part.is_finite()) {
        return None;
    }
    let parts: Vec<i8> = vector
        .iter()
        .map(|part| (part / largest * 127.0).round() as i8)
        .collect();
    let squares: f32 = parts
        .iter()
        .map(|part| f32::from(*part) * f32::from(*part))
        .sum();
    Some((parts, 1.0 / squares.sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_is_what_points_the_same_way() {
        let mut vectors = Vectors::default();
        vectors.give_up(5);
        assert!(vectors.set(0, &[1.0, 0.0, 0.0]));
        assert!(vectors.set(2, &[0.1, 0.2, 0.2]));
        assert!(vectors.set(3, &[-5.0, 0.0, 0.0]));
        for bad in [
            &[1.0, 0.0][..],
            &[0.0, 0.0, 0.0],
            &[f32::NAN, 1.0, 0.0],
            &[f32::INFINITY, 0.0, 0.0],
        ] {
            assert!(!vectors.set(1, bad), "{bad:?}");
        }
        let near = vectors
            .compare(&[2.0, 0.0, 0.0])
            .expect("of the same length");
        for (row, expected) in [
            (0, Some(1.0)),
            (1, None),
            (2, Some(1.0 / 3.0)),
            (3, Some(-1.0)),
            (5, None),
            (9, None),
        ] {
            match (near(row), expected) {
                (Some(found), Some(expected)) => {
                    assert!((found - expected).abs() < 0.01, "{row}: {found}")
                }
                (found, expected) => assert_eq!(found, expected, "{row}"),
            }
        }
        assert!(vectors.compare(&[1.0, 2.0]).is_none());
        drop(near);
        vectors.remove(0);
        assert!(vectors.is_settled(2) && vectors.is_settled(5) && !vectors.is_settled(0));
        let near = vectors
            .compare(&[0.1, 0.2, 0.2])
            .expect("of the same length");
        assert_eq!(near(0), None);
        assert!(near(2).is_some_and(|near| near > 0.99));
    }
}
