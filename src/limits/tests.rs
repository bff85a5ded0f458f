use super::*;

const DAY: Limits = Limits {
    token_budget: Some((100, Period::Day)),
    requests_per_minute: None,
    tokens_per_minute: None,
    concurrent: None,
};

fn quota<T>(result: Result<T, Fault>) -> Option<(Quota, Duration)> {
    match result {
        Err(Fault::LimitReached {
            quota, resets_in, ..
        }) => Some((quota, resets_in)),
        _ => None,
    }
}

/// A key's state, and requests of it.
#[derive(Default)]
struct Key(Arc<Mutex<State>>, Limits);

impl Key {
    fn new(limits: Limits) -> Self {
        Self(Arc::default(), limits)
    }

    /// A request that may cost `tokens`.
    fn ask(&self, tokens: u64) -> Result<Permit, Fault> {
        let (now, today) = (Instant::now(), clock::unix_seconds());
        let mut permit = Permit {
            window: lock(&self.0).admit(&self.1, now, today)?,
            state: self.0.clone(),
            expected: 0,
            used: None,
            seated: true,
        };
        permit.reserve(&self.1, || tokens)?;
        Ok(permit)
    }

    #[track_caller]
    fn goes(&self, tokens: u64) -> Permit {
        self.ask(tokens).unwrap_or_else(|fault| panic!("{fault:?}"))
    }

    fn refused(&self, tokens: u64) -> Option<(Quota, Duration)> {
        quota(self.ask(tokens))
    }

    fn day(&self) -> u64 {
        lock(&self.0).day.1
    }
}

#[test]
fn requests_a_minute_and_what_heals_them() {
    let limits = Limits {
        requests_per_minute: Some(3),
        ..Limits::default()
    };
    let mut state = State::default();
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    for second in [0, 10, 20] {
        assert!(state.admit(&limits, at(second), 0).is_ok());
    }
    let refused = quota(state.admit(&limits, at(40), 0));
    assert_eq!(refused, Some((Quota::Requests, Duration::from_secs(20))));
    assert!(state.admit(&limits, at(60), 0).is_ok());
}

#[test]
fn what_is_under_way_leaves_room_or_none() {
    for limits in [
        Limits {
            tokens_per_minute: Some(100),
            ..Limits::default()
        },
        DAY,
        Limits {
            token_budget: Some((100, Period::Month)),
            ..Limits::default()
        },
    ] {
        let key = Key::new(limits);
        let first = key.goes(90);
        assert!(key.goes(10).expected == 10, "what fits beside it");
        // Nothing is used: there may be room in a moment, whatever span it is.
        let (_, resets_in) = key.refused(11).unwrap();
        assert_eq!(resets_in, BUSY_RETRY);
        first.settle(10);
        let second = key.goes(20);
        second.settle(85);
        // 5 are left: for one, however large it seems, and for none beside it.
        let large = key.goes(1_000_000);
        assert!(key.refused(0).is_some());
        large.settle(4);
        let last = key.goes(0);
        last.settle(1);
        let (_, resets_in) = key.refused(0).unwrap();
        assert!(resets_in > BUSY_RETRY, "{resets_in:?}");
    }
}

#[test]
fn what_is_used_is_what_was_counted() {
    let key = Key::new(DAY);
    key.goes(60).settle(10);
    // One that never reached a provider, and one whose provider counted nothing.
    drop(key.goes(70));
    key.goes(80).settle(0);
    let state = lock(&key.0);
    assert_eq!((state.day.1, state.month.1), (10, 10));
    assert_eq!(state.minute.map(|minute| minute.2), Some(10));
    assert_eq!((state.concurrent, state.expected), (0, 0));
}

#[test]
fn what_is_refused_for_its_tokens_is_no_request() {
    let key = Key::new(Limits {
        requests_per_minute: Some(3),
        ..DAY
    });
    let first = key.goes(50);
    for _ in 0..5 {
        assert_eq!(key.refused(60), Some((Quota::DayBudget, BUSY_RETRY)));
    }
    // Nor is one that goes to no provider.
    for _ in 0..5 {
        drop(key.goes(50));
    }
    let second = key.goes(50);
    first.settle(0);
    second.settle(0);
    key.goes(0).settle(0);
    assert_eq!(
        key.refused(0).map(|refused| refused.0),
        Some(Quota::Requests)
    );
    assert_eq!(key.day(), 0);
}

#[test]
fn an_answer_counts_when_it_ends() {
    let limits = Limits {
        tokens_per_minute: Some(10),
        ..Limits::default()
    };
    let mut state = State::default();
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    assert!(state.admit(&limits, at(0), 0).is_ok());
    // It took longer than its minute.
    state.count(10, at(90), 0);
    let refused = quota(state.admit(&limits, at(100), 0));
    assert_eq!(refused, Some((Quota::Tokens, Duration::from_secs(50))));
    assert!(state.admit(&limits, at(150), 0).is_ok());
}

#[test]
fn a_budget_ends_with_its_span() {
    let limits = Limits {
        token_budget: Some((10, Period::Month)),
        ..Limits::default()
    };
    let mut state = State::default();
    let now = Instant::now();
    // 2024-02-29 12:00:00 and the first second of March.
    let (february, march) = (1_709_208_000, 1_709_251_200);
    assert!(state.admit(&limits, now, february).is_ok());
    state.count(10, now, february);
    let left = Duration::from_secs(march as u64 - february as u64);
    assert_eq!(
        quota(state.admit(&limits, now, february)),
        Some((Quota::MonthBudget, left))
    );
    assert!(state.admit(&limits, now, march).is_ok());
}

#[test]
fn a_clock_that_steps_back_gives_no_budget_anew() {
    // The first second of 2024-03-01, of a month and of a day; far ahead is 2099.
    let (march, ahead) = (1_709_251_200, 4_070_908_800);
    let days = clock::DAY_SECONDS;
    for (step, day, month) in [
        (0, 10, 10),
        (-1, 10, 10),
        (-days, 10, 10),
        (-days - 1, 0, 0),
        (days - 1, 10, 10),
        (days, 0, 10),
        (31 * days, 0, 0),
    ] {
        let (mut state, now) = (State::default(), Instant::now());
        state.count(10, now, march);
        state.begin(now, march + step);
        assert_eq!((state.day.1, state.month.1), (day, month), "{step}");
        state.begin(now, march);
        assert_eq!(
            (state.day.1, state.month.1),
            (day, month),
            "{step}, and back"
        );
    }
    let mut state = State::default();
    let now = Instant::now();
    state.count(10, now, ahead);
    state.begin(now, march);
    state.count(1, now, march);
    assert_eq!((state.day, state.month.1), ((march, 1), 1));
}

#[test]
fn what_was_used_before_counts() {
    let limits = Limits {
        requests_per_minute: Some(3),
        ..DAY
    };
    let keys = KeyLimits::default();
    let now = clock::unix_seconds();
    let (day, month) = (clock::day_start(now), clock::month_start(now));
    let key = Key(keys.0.entry("k".into()).or_default().clone(), limits);
    key.goes(0).settle(10);
    keys.carry("k", Some((now, 1, 50)), (day, 50), (month, 500));
    // Another day's tokens are none of this one's.
    keys.carry("k", None, (day - clock::DAY_SECONDS, 1000), (month, 0));
    let one = key.goes(39);
    assert_eq!(
        key.refused(2).map(|refused| refused.0),
        Some(Quota::Requests)
    );
    assert_eq!(key.day(), 60);
    one.settle(40);
    lock(&key.0).minute = None;
    assert_eq!(
        key.refused(0).map(|refused| refused.0),
        Some(Quota::DayBudget)
    );
    // Nor are a minute's that is over.
    let over = Instant::now().checked_sub(MINUTE).unwrap();
    lock(&key.0).minute = Some((over, 7, 7));
    keys.carry("k", Some((now, 1, 50)), (day, 0), (month, 0));
    let minute = lock(&key.0).minute.unwrap();
    assert_eq!((minute.1, minute.2), (1, 50));
}

#[test]
fn what_is_known_of_a_key_ends_with_it() {
    let keys = KeyLimits::default();
    let used = |key: &str| keys.used(key, 7, Instant::now());
    ["gone", "revoked", "busy"].into_iter().for_each(used);
    let under_way = keys.state("busy");
    keys.keep(["revoked"].into_iter());
    let known = |key: &str| keys.0.get(key).map(|state| lock(&state).day.1);
    let all = ["gone", "revoked", "busy"];
    assert_eq!(all.map(known), [None, Some(7), Some(7)]);
    drop(under_way);
    keys.keep(["revoked"].into_iter());
    assert_eq!(all.map(known), [None, Some(7), None]);
}

#[test]
fn at_once() {
    let key = Key::new(Limits {
        concurrent: Some(1),
        ..Limits::default()
    });
    let mut one = key.goes(0);
    assert_eq!(key.refused(0), Some((Quota::Concurrent, BUSY_RETRY)));
    one.leave();
    one.leave();
    let other = key.goes(0);
    one.settle(0);
    assert!(key.refused(0).is_some(), "a place is given back once");
    other.settle(0);
    assert!(key.ask(0).is_ok());
}
