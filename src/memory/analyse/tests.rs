//! What texts have in common once they are analysed, for each family of languages.

use proptest::prelude::*;

use super::*;

fn shared(a: &str, b: &str) -> usize {
    let (a, b) = (analyse(a), analyse(b));
    let common = |(term, _): &&(u64, u16)| b.terms.iter().any(|(other, _)| other == term);
    a.terms.iter().filter(common).count()
}

#[test]
fn a_question_meets_the_memory_that_answers_it() {
    let mut apart = Vec::new();
    for (question, memory, unrelated) in [
        // Latin script, by family.
        (
            "Where does my brother live?",
            "My brothers are living in Leeds.",
            "The bread was stale.",
        ),
        (
            "Welche Sprachen spreche ich?",
            "Ich habe drei Sprachen gesprochen.",
            "Der Zug fuhr nach Bonn.",
        ),
        (
            "Waar liggen mijn boeken?",
            "Mijn favoriete boek ligt in de kast.",
            "Het regent vandaag.",
        ),
        (
            "Var står mina bilar?",
            "Min bil är röd.",
            "Tåget var sent igår.",
        ),
        (
            "Hvilke bøker liker jeg?",
            "Boken som jeg liker best er ny.",
            "Toget var for sent.",
        ),
        (
            "Hvilke katte har jeg?",
            "Jeg fik en kat, katten er grå.",
            "Toget var forsinket.",
        ),
        (
            "Où habitent mes amies ?",
            "Mon amie habite à Lyon.",
            "Le pain était froid.",
        ),
        (
            "¿Dónde viven mis hermanas?",
            "Mi hermana se mudó a Quito.",
            "El pan estaba frío.",
        ),
        (
            "Onde moram os meus irmãos?",
            "O meu irmão mudou para Braga.",
            "O pão estava frio.",
        ),
        (
            "Dove abitano le mie amiche?",
            "La mia amica abita a Pisa.",
            "Il pane era freddo.",
        ),
        (
            "Unde sunt prietenii mei?",
            "Prietenul meu merge la școală.",
            "Pâinea era rece.",
        ),
        (
            "Missä taloni on?",
            "Minun talossa on sauna.",
            "Juna oli myöhässä.",
        ),
        (
            "Hol vannak a könyveim?",
            "A könyvek nálam vannak.",
            "A vonat késett.",
        ),
        (
            "Kitaplarım nerede?",
            "En sevdiğim kitaplar bu rafta ve burada.",
            "Tren çok geç kaldı.",
        ),
        (
            "On són els meus llibres?",
            "El llibre que llegeixo és teu.",
            "El pa era fred.",
        ),
        (
            "Kucing saya bernama siapa?",
            "Saya punya kucing dan kucingnya bernama Momo.",
            "Kereta itu terlambat.",
        ),
        // Other scripts with spaces.
        (
            "Где живут мои сёстры?",
            "Моя сестра переехала в Казань.",
            "Хлеб был холодным.",
        ),
        (
            "Πού μένει ο αδελφός μου;",
            "Οι αδελφοί μου μένουν στην Πάτρα.",
            "Το τρένο άργησε.",
        ),
        (
            "أين تعمل أختي؟",
            "أختي تعمل في المستشفى",
            "كان القطار متأخرا",
        ),
        ("מה השם של הכלב שלי?", "הכלב שלי נקרא בובי", "הרכבת איחרה"),
        ("मेरे लड़के का नाम क्या है?", "मेरा लड़का स्कूल जाता है", "रोटी ठंडी थी"),
        (
            "என் புத்தகம் எங்கே?",
            "புத்தகங்கள் மேசையில் உள்ளன",
            "ரயில் தாமதமாக வந்தது",
        ),
        (
            "Որտե՞ղ է իմ քույրը",
            "Քույրս ապրում է Երևանում, քույրը բժիշկ է",
            "Հացը սառն էր",
        ),
        (
            "Gdzie pracuje Zosia?",
            "Zosia pracuje w Krakowie",
            "Pociąg spóźnił się",
        ),
        (
            "Con mèo của tôi tên gì?",
            "Con mèo tên Bông",
            "Tàu đến muộn",
        ),
        // Scripts without spaces, or with endings grown on.
        ("我的猫叫什么名字?", "我有一只猫，名字叫咪咪", "火车晚点"),
        ("私の猫の名前は?", "飼い猫はタマという名前です", "電車遅延"),
        ("カリフォルニアのどこ?", "カリフォルニアに住む", "電車遅延"),
        (
            "제 고양이 이름이 뭐죠?",
            "고양이의 이름은 나비입니다",
            "기차가 늦었다",
        ),
        ("แมวของฉันชื่ออะไร", "ฉันมีแมวชื่อมะลิ", "รถไฟสาย"),
        ("ແມວຂອງຂ້ອຍ", "ຂ້ອຍມີແມວ", "ລົດໄຟ"),
        ("ឆ្មារបស់ខ្ញុំ", "ខ្ញុំមានឆ្មា", "រថភ្លើង"),
        ("ကျွန်တော့်ကြောင်", "ကြောင်တစ်ကောင်", "မီးရထား"),
    ] {
        let near = shared(question, memory);
        let far = shared(question, unrelated);
        if near <= far {
            apart.push(format!("{question} / {memory}: {near} against {far}"));
        }
        assert!(shared(memory, memory) >= near);
    }
    assert_eq!(apart, Vec::<String>::new());
}

#[test]
fn a_word_meets_itself_whatever_its_text_is_taken_for() {
    for (word, texts) in [
        (
            "Kalifornien",
            ["Ich wohne jetzt in Kalifornien.", "We flew to Kalifornien."],
        ),
        (
            "Lieblingsfarben",
            ["Lieblingsfarben: Blau", "Das sind meine Lieblingsfarben."],
        ),
        (
            "München",
            [
                "Ich bin nach München gezogen.",
                "She moved to Munchen last year.",
            ],
        ),
        ("café", ["The cafe was closed.", "Le café est très bon."]),
        (
            "Málaga",
            ["Vivo en Malaga desde hace años.", "They visited Málaga."],
        ),
        (
            "strasse",
            ["Die Straße ist lang.", "Ich wohne in der Straße."],
        ),
        ("straße", ["Strasse 12", "Die Strasse ist lang."]),
        ("oeuvre", ["Son œuvre est connue.", "œuvre"]),
        ("fiancée", ["my fiancee is here", "Ma fiancée est là."]),
        (
            "Müller",
            ["Herr Muller hat angerufen.", "Mr Müller called."],
        ),
    ] {
        for text in texts {
            assert!(shared(word, text) >= 1, "{word} / {text}");
        }
    }
}

#[test]
fn writing_differs_and_words_do_not() {
    for (a, b) in [
        ("Running SHOES", "running shoes"),
        ("don’t shout", "don't shout"),
        ("ＡＢＣ１２３", "abc123"),
        ("ﬁnal oﬀer", "final offer"),
        ("ﾃｽﾄ", "テスト"),
        ("e\u{301}clair", "éclair"),
        ("Ёлка", "елка"),
        ("10,000 steps", "10000 steps"),
        ("İstanbul", "istanbul"),
        ("get_user_name", "getUserName"),
        ("ΟΔΟΣ", "οδος"),
        ("كِتَاب", "كتاب"),
    ] {
        assert_eq!(analyse(a), analyse(b), "{a} / {b}");
    }
}

#[test]
fn names_of_code_and_addresses_are_found_by_their_parts() {
    for (query, text, least) in [
        ("user name", "call getUserName() first", 2),
        ("getUserName", "getUserName is slow", 3),
        ("example.com", "write to anna.berg@example.com", 3),
        ("Anna Berg", "write to anna.berg@example.com", 2),
        ("max_body_bytes", "set max_body_bytes=10", 4),
        ("O'Brien", "Mr O'Brien came", 1),
        ("L'amour", "Elle parle de l'amour.", 1),
        ("3.14", "pi is 3.14", 1),
        ("2023-05-07", "on 7 May 2023", 2),
        ("YouTube", "on youtube", 1),
        ("week we", "see you next week.We went", 1),
    ] {
        assert!(
            shared(query, text) >= least,
            "{query} / {text}: {}",
            shared(query, text)
        );
    }
    assert_eq!(shared("3.14", "3 or 14"), 0);
}

#[test]
fn a_letter_with_a_sign_is_another_word_than_the_letter() {
    for (query, text, common) in [
        ("C++", "I write C++ at work", 1),
        ("c++", "We use C++17, mostly.", 1),
        ("C#", "Je n'aime pas le C#.", 1),
        ("C#", "I write C++ at work", 0),
        ("C++", "vitamin C", 0),
        ("F#", "issue F#12", 0),
        ("C", "C+++ and C## and C+", 1),
        ("7#", "7 apples", 1),
    ] {
        assert_eq!(shared(query, text), common, "{query} / {text}");
    }
}

#[test]
fn what_says_nothing_is_left_out() {
    for text in [
        "",
        " \t\n",
        "... !!! ---",
        "the of and",
        "What is it that we are?",
        "Wer ist das und wie ist er?",
        "¿Qué es esto?",
        "Qu'est ce que c'est ?",
        "что это и как",
        "😀🎉",
        "的 了",
    ] {
        let analysed = analyse(text);
        assert!(analysed.terms.len() <= 2, "{text}: {analysed:?}");
        if text.len() < 6 || text.is_ascii() && !text.contains('\'') {
            assert_eq!(analysed, Analysed::default(), "{text}");
        }
    }
}

#[test]
fn counts_and_length_are_of_words() {
    let analysed = analyse("Dogs chase a dog; the cat sleeps.");
    let mut counts: Vec<u16> = analysed.terms.iter().map(|term| term.1).collect();
    counts.sort_unstable();
    assert_eq!((analysed.len, counts), (5, vec![1, 1, 1, 2]));
    assert!(analysed.terms.is_sorted_by(|a, b| a.0 < b.0));
    // A whole beside its parts makes a text no longer.
    assert_eq!(analyse("getUserName").len, 3);
    assert_eq!(analyse("猫が好き").len, 3);
}

#[test]
fn terms_are_the_same_for_ever() {
    // Written to disk: where these change, `VERSION` is to change.
    let first = |text: &str| analyse(text).terms.first().map_or(0, |term| term.0);
    assert_eq!(hash(b""), 0xefd0_1f60_ba99_2926);
    assert_eq!(hash(b"dog"), first("dogs"));
    assert_eq!(first("猫"), hash("猫".as_bytes()));
    assert_eq!(VERSION, 3);
}

#[test]
fn long_texts_and_words_are_bounded() {
    let word = "x".repeat(1 << 20);
    assert_eq!(analyse(&word).terms.len(), 1);
    let many = (0..200_000).map(|n| format!("w{n} ")).collect::<String>();
    assert!(analyse(&many).len < 20_000);
    assert!(analyse(&"猫".repeat(100_000)).len <= 22_000);
}

#[test]
fn tokens_are_about_what_models_count() {
    for (text, least, most) in [
        ("", 0, 0),
        ("a", 1, 1),
        ("The quick brown fox jumps over the lazy dog.", 9, 13),
        ("Ich wohne seit drei Jahren in München.", 9, 14),
        ("Я живу в Москве уже три года", 9, 16),
        ("我有一只猫", 4, 6),
        ("😀", 2, 2),
    ] {
        let tokens = tokens(text);
        assert!((least..=most).contains(&tokens), "{text}: {tokens}");
    }
}

proptest! {
    #[test]
    fn plain_words_are_read_like_all_others(text in "([a-zA-Z]{0,12}|x{60,70})[ ,.'_+#0-9é\u{301}\u{2019}-]{0,2}[a-zA-Z]{0,3}") {
        if let Some(word) = plain_word(&text) {
            let (mut plain, mut other) = (Scan::default(), Scan::default());
            prop_assert_eq!(plain.plain(word), other.word(&text));
            prop_assert_eq!(&plain.letters, &other.letters);
            prop_assert_eq!(plain.finish(), other.finish());
        }
    }

    #[test]
    fn any_text_is_analysed_alike_twice(text in "\\PC{0,200}") {
        let once = analyse(&text);
        prop_assert_eq!(&once, &analyse(&text));
        prop_assert!(once.terms.is_sorted_by(|a, b| a.0 < b.0));
        let _ = tokens(&text);
    }

    #[test]
    fn any_characters_at_all(chars in proptest::collection::vec(any::<char>(), 0..100)) {
        let text: String = chars.into_iter().collect();
        let analysed = analyse(&text);
        prop_assert!(analysed.terms.len() <= 8 * text.chars().count() + 8);
    }

    #[test]
    fn words_of_any_alphabet_are_stemmed(word in "[a-zäöüßéèêçñåøæğışа-яёα-ωء-يא-תअ-हஅ-ஹա-ֆ]{1,30}") {
        for frame in ["", "der die und ", "le la les ", "el los que ", "och det ", "ve bir ", "e non che "] {
            analyse(&format!("{frame}{word}"));
        }
    }
}

#[test]
fn a_word_alone_is_no_other_languages_function_word() {
    // Of Danish, Italian, German.
    for text in ["dog", "come", "die"] {
        assert!(!analyse(text).terms.is_empty(), "{text}");
    }
    let shared = |a: &str, b: &str| {
        let (a, b) = (analyse(a), analyse(b));
        a.terms
            .iter()
            .any(|term| b.terms.iter().any(|other| other.0 == term.0))
    };
    assert!(shared("dog", "My dog is called Rex"));
    assert!(shared("die", "Plants die without water in the end"));
    // Neither is it among words that tell of no language.
    assert!(shared("dog name", "My dog is called Rex"));
    assert!(shared("plants die", "It may die without water in the end"));
    // Two of them tell one.
    let german = analyse("die Pflanzen und der Hund");
    assert_eq!(german.len, 2, "{german:?}");
}
