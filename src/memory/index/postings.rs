//! The rows of a term, and a row's terms as bytes.

/// A row and how often the term stands in it, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::memory) struct Posting(u32);

impl Posting {
    const COUNT_BITS: u32 = 4;
    const COUNT_MAX: u32 = (1 << Posting::COUNT_BITS) - 1;
    pub(in crate::memory) const ROWS_MAX: u32 = u32::MAX >> Posting::COUNT_BITS;

    /// Counts end at 15: more of the same says nothing new.
    pub(super) fn new(row: u32, count: u16) -> Posting {
        Posting(row << Posting::COUNT_BITS | u32::from(count).min(Posting::COUNT_MAX))
    }

    pub(in crate::memory) fn row(self) -> u32 {
        self.0 >> Posting::COUNT_BITS
    }

    pub(in crate::memory) fn count(self) -> u32 {
        self.0 & Posting::COUNT_MAX
    }
}

/// In the order of the rows. Most terms stand in one row only, and that takes no more than the place for a list.
#[derive(Debug, Default)]
pub(in crate::memory) enum Postings {
    #[default]
    None,
    One(Posting),
    Many(Vec<Posting>),
}

impl Postings {
    /// `posting` is of a row behind all others.
    pub(super) fn push(&mut self, posting: Posting) {
        match self {
            Postings::None => *self = Postings::One(posting),
            Postings::One(first) => *self = Postings::Many(vec![*first, posting]),
            Postings::Many(all) => {
                // Grows by a fourth, not twofold: there are many lists.
                if all.len() == all.capacity() {
                    all.reserve_exact((all.len() / 4).max(2));
                }
                all.push(posting);
            }
        }
    }

    pub(super) fn remove(&mut self, row: u32) {
        match self {
            Postings::None => {}
            Postings::One(posting) if posting.row() == row => *self = Postings::None,
            Postings::One(_) => {}
            Postings::Many(all) => {
                if let Ok(at) = all.binary_search_by_key(&row, |posting| posting.row()) {
                    all.remove(at);
                }
            }
        }
    }

    pub(in crate::memory) fn as_slice(&self) -> &[Posting] {
        match self {
            Postings::None => &[],
            Postings::One(posting) => std::slice::from_ref(posting),
            Postings::Many(all) => all,
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            // What an allocation takes beside its contents.
            Postings::Many(all) => all.capacity() * size_of::<Posting>() + 8,
            _ => 0,
        }
    }

    pub(super) fn shrink(&mut self) {
        if let Postings::Many(all) = self {
            all.shrink_to_fit();
        }
    }
}

/// Writes a term's number and count: seven bits a byte, the count behind it only where it is above one.
pub(super) fn write(out: &mut Vec<u8>, number: u32, count: u16) {
    let repeated = count > 1;
    write_number(out, u64::from(number) << 1 | u64::from(repeated));
    if repeated {
        write_number(out, u64::from(count));
    }
}

fn write_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// What `write` wrote.
pub(super) fn read(bytes: &[u8]) -> impl Iterator<Item = (u32, u16)> + '_ {
    let mut bytes = bytes.iter();
    std::iter::from_fn(move || {
        let number = read_number(&mut bytes)?;
        let count = match number & 1 {
            0 => 1,
            _ => read_number(&mut bytes)?,
        };
        Some(((number >> 1) as u32, count as u16))
    })
}

fn read_number(bytes: &mut std::slice::Iter<'_, u8>) -> Option<u64> {
    let mut number = 0;
    let mut shift = 0;
    loop {
        let byte = *bytes.next()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
        shift += 7;
    }
}
