//! From an order to an answer: which provider, key and address to try, in which order, and when to stop.
//!
//! The first answer that is not a refusal a different key or provider could cure goes to the caller. Until then the
//! last answer is held, not thrown away: if nothing better comes, the caller gets it as it came. A request is sent
//! again on the same provider only if no byte of an answer came, and the connection was an old one that had died before.

use std::pin::pin;
use std::time::{Duration, Instant};

use super::answers::{carries_credential, id_of, is_event_stream, is_uncoded};
use super::body::Request;
use super::order::{Order, Route};
use super::{Exchange, Stop, Tenant};
use crate::config::{Config, ProviderId};
use crate::error::{Fault, Wait};
use crate::http::{Framing, Method};
use crate::keys::InTurn;
use crate::metrics;
use crate::plan::Base;
use crate::provider::Kind;
use crate::secret::Secret;
use crate::upstream::{self, Answer, DialError, Failure, Outgoing, Sent, Watch};
use crate::worker::Worker;

/// The answer that goes to the caller.
pub(super) struct Attempt {
    pub(super) answer: Box<Answer>,
    pub(super) framing: Framing,
    /// When it became the caller's.
    pub(super) at: Instant,
    /// From the request's departure to its head.
    first_byte: Duration,
    /// It is a stream with counts that the caller did not ask for.
    pub(super) cut: bool,
    /// What it gives as its id holds a credential.
    pub(super) id_is_secret: bool,
}

/// One way to be answered: a provider and what pays it.
struct Candidate<'a> {
    route: &'a Route,
    key: Option<&'a Secret>,
}

/// What the last try came to.
enum Tried {
    Answered(Attempt),
    /// Nobody has it, at most a connection that died without a word; another address or provider may do.
    NotReached(Fault),
    /// It was sent, and no answer came; the same provider is not asked again.
    Unanswered(Fault),
}

/// A connection that the provider had ended tells so within a round trip of the request's first bytes, and one lost segment
/// (RFC 6298: a second at first). One that ends later has had the request, and may have been at work on it for pay.
const STALE_WITHIN: Duration = Duration::from_secs(1);

/// Statuses that another key or provider may cure.
fn curable(status: u16) -> bool {
    matches!(status, 401 | 403 | 429 | 500..)
}

/// Tries until there is an answer for the caller, or none is to be had.
pub(super) async fn answer(
    order: &Order<'_>,
    request: &mut Request<'_>,
    tenant: &Tenant,
    watch: &mut Watch<'_>,
    exchange: &mut Exchange<'_>,
) -> Result<Attempt, Stop> {
    let worker = exchange.worker;
    let mut held: Option<(Attempt, ProviderId)> = None;
    let mut fault = None;
    let mut spent: Option<ProviderId> = None;
    let mut tries = 0;
    let mut left = Candidates::new(order, tenant, &worker.config)?.peekable();
    while let Some(candidate) = left.next() {
        let provider = candidate.route.provider;
        // The other keys of a provider that does not answer are not tried, and do not count as tries.
        if spent == Some(provider) {
            continue;
        }
        exchange.goes_to(candidate.route, &order.model);
        if tries > 0 {
            metrics::add(&worker.metrics.fallbacks);
        }
        tries += 1;
        let last_try = tries == worker.config.routing.attempts;
        let tried = try_candidate(&candidate, order, request, watch, exchange).await?;
        match tried {
            Tried::Answered(attempt) => {
                let final_word = !curable(attempt.answer.head.line.status);
                if final_word || last_try || left.peek().is_none() {
                    exchange.record.first_byte = Some(attempt.first_byte);
                    return Ok(attempt);
                }
                let mut attempt = attempt;
                match attempt.answer.reclaim_outgoing() {
                    Some(outgoing) => {
                        request.restore_body(outgoing.body);
                        held = Some((attempt, provider));
                    }
                    // Answered before it had read everything; what has not come of the answer by now will not come.
                    None => {
                        let outgoing = Box::pin(attempt.answer.stop_sending()).await;
                        request.restore_body(outgoing.body);
                        if attempt.answer.is_here(attempt.framing) {
                            held = Some((attempt, provider));
                        }
                    }
                }
            }
            Tried::NotReached(why) | Tried::Unanswered(why) => {
                spent = Some(provider);
                fault = Some(why);
            }
        }
        if watch.left() {
            return Err(Stop::CallerLeft);
        }
        if last_try {
            break;
        }
    }
    if let Some((mut attempt, provider)) = held {
        attempt.at = Instant::now();
        exchange.record.first_byte = Some(attempt.first_byte);
        if let Some(route) = order.routes.iter().find(|route| route.provider == provider) {
            exchange.goes_to(route, &order.model);
        }
        return Ok(attempt);
    }
    let unreachable = || {
        let provider = exchange.record.provider.as_deref();
        Fault::Unreachable(provider.unwrap_or_default().to_owned())
    };
    Err(fault.unwrap_or_else(unreachable).into())
}

/// The order's routes with each key that can pay them, looked up as they are needed. With a key passed through there is
/// the named provider only, even if that one takes no key: the key is meant for nobody else.
struct Candidates<'a> {
    order: &'a Order<'a>,
    tenant: &'a Tenant,
    config: &'a Config,
    route: &'a Route,
    /// What is left of what pays `route`.
    payment: Payment<'a>,
    /// The place of the route behind it, and where those end that may be asked.
    next: usize,
    end: usize,
}

/// What pays a provider.
enum Payment<'a> {
    /// One key, or none where none is needed.
    Once(Option<&'a Secret>),
    Stored(InTurn<'a>),
    /// Nothing, or nothing more.
    Spent,
}

impl<'a> Candidates<'a> {
    fn new(order: &'a Order<'a>, tenant: &'a Tenant, config: &'a Config) -> Result<Self, Fault> {
        let route = &order.routes.first;
        let end = match tenant.provider_key {
            Some(_) => 1,
            None => usize::MAX,
        };
        let payment = payment(route, tenant, config);
        if let Payment::Spent = payment {
            let provider = config.providers.get(route.provider).name.clone();
            return Err(Fault::NoProviderKey(provider));
        }
        Ok(Self {
            order,
            tenant,
            config,
            route,
            payment,
            next: 1,
            end,
        })
    }
}

impl<'a> Iterator for Candidates<'a> {
    type Item = Candidate<'a>;

    fn next(&mut self) -> Option<Candidate<'a>> {
        loop {
            let key = match &mut self.payment {
                Payment::Once(key) => Some(*key),
                Payment::Stored(keys) => keys.next().map(|key| Some(&key.secret)),
                Payment::Spent => None,
            };
            if let Payment::Once(_) = self.payment {
                self.payment = Payment::Spent;
            }
            if let Some(key) = key {
                let route = self.route;
                return Some(Candidate { route, key });
            }
            self.route = match self.next < self.end {
                true => self.order.routes.get(self.next)?,
                false => return None,
            };
            self.next += 1;
            self.payment = payment(self.route, self.tenant, self.config);
        }
    }
}

fn is_keyless(route: &Route, config: &Config) -> bool {
    config.providers.get(route.provider).kind == Kind::Keyless
}

fn payment<'a>(route: &Route, tenant: &'a Tenant, config: &Config) -> Payment<'a> {
    let passed = tenant.provider_key.as_ref();
    if is_keyless(route, config) {
        return Payment::Once(None);
    }
    if passed.is_some() {
        return Payment::Once(passed);
    }
    let provider = &config.providers.get(route.provider).name;
    let stored = tenant
        .snapshot
        .provider_keys(&tenant.key.grant.account, provider);
    stored.map_or(Payment::Spent, |keys| Payment::Stored(keys.in_turn()))
}

async fn try_candidate(
    candidate: &Candidate<'_>,
    order: &Order<'_>,
    request: &mut Request<'_>,
    watch: &mut Watch<'_>,
    exchange: &mut Exchange<'_>,
) -> Result<Tried, Stop> {
    let worker = exchange.worker;
    let provider = &worker.config.providers.get(candidate.route.provider).name;
    let mut fault = None;
    let started = exchange.record.started();
    let is_down = |origin| worker.upstreams.is_down(origin, started);
    for base in worker.plan.bases_in_turn(candidate.route.provider, is_down) {
        let connection = match worker.upstreams.take_idle(base.origin, started) {
            Some(connection) => {
                metrics::add(&worker.metrics.pool_hits);
                connection
            }
            None => match dialled(base, watch, worker).await? {
                Ok(connection) => connection,
                Err(error) => {
                    fault = Some(not_reached(error, provider));
                    continue;
                }
            },
        };
        let outgoing = order.outgoing(
            candidate.route,
            candidate.key,
            base,
            request,
            exchange.record.trace.as_deref(),
            worker,
        )?;
        let tried = send(
            connection, outgoing, base, request, provider, watch, exchange,
        )
        .await?;
        match tried {
            Tried::NotReached(why) => fault = Some(why),
            Tried::Unanswered(why) => return Ok(Tried::Unanswered(why)),
            Tried::Answered(mut attempt) => {
                attempt.cut = attempt.answer.head.line.status < 400
                    && order.asks_for_usage(candidate.route, worker)
                    && is_event_stream(&attempt.answer)
                    && is_uncoded(&attempt.answer);
                attempt.id_is_secret =
                    id_of(&attempt.answer).is_some_and(|id| carries_credential(id, candidate.key));
                return Ok(Tried::Answered(attempt));
            }
        }
    }
    let none = || Fault::ProviderNotConfigured(provider.clone());
    Ok(Tried::NotReached(fault.unwrap_or_else(none)))
}

fn not_reached(error: DialError, provider: &str) -> Fault {
    match error {
        DialError::Unreachable => Fault::Unreachable(provider.to_owned()),
        DialError::NoDescriptor => Fault::TooManyConnections,
        DialError::TimedOut => Fault::TimedOut(provider.to_owned(), Wait::Connect),
    }
}

/// Waits for a new connection.
async fn dialled(
    base: &Base,
    watch: &mut Watch<'_>,
    worker: &Worker,
) -> Result<Result<upstream::Connection, DialError>, Stop> {
    let dial = pin!(worker.upstreams.fresh(base.origin));
    let dialled = watch.beside(dial).await;
    metrics::add(match &dialled {
        Ok(_) => &worker.metrics.pool_misses,
        Err(_) => &worker.metrics.dial_failures,
    });
    match watch.left() {
        true => Err(Stop::CallerLeft),
        false => Ok(dialled),
    }
}

/// Sends over `connection`; once more over a new one if this was an old one that had died unnoticed.
#[expect(
    clippy::manual_async_fn,
    reason = "an async fn keeps its arguments twice"
)]
fn send(
    mut connection: upstream::Connection,
    mut outgoing: Outgoing,
    base: &Base,
    request: &mut Request<'_>,
    provider: &str,
    watch: &mut Watch<'_>,
    exchange: &mut Exchange<'_>,
) -> impl Future<Output = Result<Tried, Stop>> {
    async move {
        let worker = exchange.worker;
        let limits = upstream::ANSWER_HEAD_LIMITS;
        loop {
            let departed = Instant::now();
            let reused = connection.reused();
            exchange.record.attempts += 1;
            exchange.record.reused = reused;
            exchange.record.departs(departed);
            let first_byte_timeout = worker.config.timeouts.first_byte;
            let sent = upstream::send(
                connection,
                outgoing,
                departed,
                first_byte_timeout,
                &limits,
                watch,
            )
            .await;
            let arrived = Instant::now();
            if watch.left() {
                let outgoing = match sent {
                    Sent::Failed(_, outgoing) => outgoing,
                    Sent::Answered(answer) => Box::pin(answer.discard()).await,
                };
                exchange.sent_in_vain(&outgoing.body);
                return Err(Stop::CallerLeft);
            }
            let (failure, returned) = match sent {
                Sent::Failed(failure, outgoing) => (failure, outgoing),
                Sent::Answered(answer) => {
                    match Framing::of_response(&answer.head, &answer.bytes, Method::Post) {
                        Ok(framing) => {
                            return Ok(Tried::Answered(Attempt {
                                answer,
                                framing,
                                at: arrived,
                                first_byte: arrived - departed,
                                cut: false,
                                id_is_secret: false,
                            }));
                        }
                        Err(error) => {
                            tracing::warn!(
                                provider,
                                error = error.0,
                                "provider sent a malformed answer"
                            );
                            (Failure::Malformed, Box::pin(answer.discard()).await)
                        }
                    }
                }
            };
            let unserved = match failure {
                Failure::Closed => arrived - departed <= STALE_WITHIN,
                Failure::Unacknowledged => true,
                _ => false,
            };
            if unserved && reused {
                metrics::add(&worker.metrics.retries);
                outgoing = returned;
                connection = match dialled(base, watch, worker).await? {
                    Ok(connection) => connection,
                    Err(error) => {
                        request.restore_body(outgoing.body);
                        return Ok(Tried::NotReached(not_reached(error, provider)));
                    }
                };
                continue;
            }
            request.restore_body(returned.body);
            return Ok(Tried::Unanswered(match failure {
                Failure::TimedOut => Fault::TimedOut(provider.to_owned(), Wait::FirstByte),
                _ => Fault::Unreachable(provider.to_owned()),
            }));
        }
    }
}
