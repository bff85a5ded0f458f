//! Whether anything was asked, and whether a memory has enough of it.

use super::super::analyse::Analysed;
use super::super::index::Index;
use super::super::rank::{Hit, idf};
use super::looks::Looks;

/// Of what the query's rarest terms say together, how much one of the best is to have.
const SAID_SHARE_MIN: f32 = 0.15;
const SAID_TERMS: usize = 5;
/// In a smaller vault terms are rare by chance.
const SAID_COUNT_MIN: f32 = 1000.0;

/// What people say without asking for anything.
const SMALL_TALK: &[&str] = &[
    "hi",
    "hello",
    "hey",
    "hiya",
    "yo",
    "morning",
    "afternoon",
    "evening",
    "night",
    "good",
    "great",
    "nice",
    "cool",
    "ok",
    "okay",
    "k",
    "yes",
    "yeah",
    "yep",
    "no",
    "nope",
    "sure",
    "thanks",
    "thank",
    "thx",
    "ty",
    "you",
    "please",
    "bye",
    "goodbye",
    "there",
    "how",
    "are",
    "is",
    "it",
    "going",
    "what",
    "up",
    "sup",
    "so",
    "much",
    "very",
    "a",
    "lot",
    "and",
    "well",
    "fine",
    "welcome",
    "test",
    "testing",
    "ping",
    "hallo",
    "guten",
    "tag",
    "morgen",
    "abend",
    "danke",
    "bitte",
    "ja",
    "nein",
    "tschüss",
    "servus",
    "bonjour",
    "bonsoir",
    "salut",
    "merci",
    "oui",
    "non",
    "hola",
    "buenos",
    "buenas",
    "días",
    "dias",
    "tardes",
    "noches",
    "gracias",
    "sí",
    "si",
    "adiós",
    "ciao",
    "buongiorno",
    "grazie",
    "olá",
    "ola",
    "oi",
    "obrigado",
    "obrigada",
    "bom",
    "dia",
    "hoi",
    "dank",
    "je",
    "wel",
    "hej",
    "tack",
    "tak",
    "takk",
    "привет",
    "здравствуйте",
    "спасибо",
    "да",
    "нет",
    "merhaba",
    "teşekkürler",
    "你好",
    "您好",
    "谢谢",
    "こんにちは",
    "ありがとう",
    "안녕하세요",
    "감사합니다",
    "مرحبا",
    "شكرا",
    "שלום",
    "תודה",
    "नमस्ते",
    "धन्यवाद",
    "สวัสดี",
    "ขอบคุณ",
];

pub(super) fn is_small_talk(text: &str) -> bool {
    // Longer than all that is small.
    if text.len() > 64 {
        return false;
    }
    let mut words = text.split(|c: char| {
        c.is_whitespace() || c.is_ascii_punctuation() || "¡¿！。、，؟".contains(c)
    });
    words.all(|word| word.is_empty() || SMALL_TALK.contains(&&*word.to_lowercase()))
}

/// What a query is about: its terms' numbers, each with how rare it is.
pub(super) struct Said {
    /// In the order of their numbers.
    terms: Vec<(u32, f32)>,
    enough: f32,
}

impl Said {
    pub(super) fn of(index: &Index, asked: &Analysed) -> Said {
        let count = (index.len() as f32).max(SAID_COUNT_MIN);
        let rarity = |rows: usize| idf(count, rows.max(1) as f32);
        let mut terms = Vec::with_capacity(asked.terms.len());
        let mut rarities = Vec::with_capacity(asked.terms.len());
        for (term, _) in &asked.terms {
            let number = index.number_of(*term);
            let rarity = rarity(number.map_or(0, |number| index.rows_with(number)));
            terms.extend(number.map(|number| (number, rarity)));
            rarities.push(rarity);
        }
        terms.sort_unstable_by_key(|term| term.0);
        rarities.sort_unstable_by(|a, b| b.total_cmp(a));
        let most = rarities.iter().take(SAID_TERMS).sum::<f32>();
        Said {
            terms,
            enough: SAID_SHARE_MIN * most,
        }
    }

    /// Whether a memory's own words say enough of it, as far as may be looked.
    pub(super) fn enough_in(&self, index: &Index, hit: &Hit, looks: &Looks) -> bool {
        if looks.are_spent() {
            return false;
        }
        let (mut said, mut looked) = (0.0, 0);
        for (number, _) in index.terms_of(hit.row) {
            looked += 1;
            if let Ok(at) = self.terms.binary_search_by_key(&number, |term| term.0) {
                said += self.terms[at].1;
                if said >= self.enough {
                    break;
                }
            }
        }
        looks.at_terms(looked);
        said >= self.enough
    }
}
