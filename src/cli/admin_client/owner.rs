//! Who listens on an address of this machine, from the kernel's table of sockets.
//!
//! The admin token goes to the router's own user only: on a machine of several users anybody may take the port while
//! no router runs. Parses `/proc/net/tcp` and `tcp6` (proc(5)); addresses stand there as words in the machine's order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const TABLES: [&str; 2] = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
const LISTENING: &str = "0A";

/// The users of the sockets that a connection to `address` may reach: those that listen on it or, if there are none,
/// on its port of all addresses.
pub(super) fn listeners(address: SocketAddr) -> Vec<u32> {
    let tables = TABLES.map(|table| std::fs::read_to_string(table).unwrap_or_default());
    users(&tables.concat(), address)
}

fn users(tables: &str, address: SocketAddr) -> Vec<u32> {
    let on = |ip: IpAddr| sockets(tables, address.port()).filter(move |(at, _)| *at == ip);
    let mut found: Vec<u32> = on(address.ip()).map(|(_, user)| user).collect();
    if found.is_empty() {
        let all = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        found.extend(all.into_iter().flat_map(on).map(|(_, user)| user));
    }
    found
}

/// Address and user of all sockets that listen on `port`.
fn sockets(tables: &str, port: u16) -> impl Iterator<Item = (IpAddr, u32)> {
    tables.lines().filter_map(move |line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (ip, hex) = words.next()?.split_once(':')?;
        let listening = words.nth(1)? == LISTENING && u16::from_str_radix(hex, 16).ok()? == port;
        let user = words.nth(3)?.parse().ok()?;
        listening.then_some((ip_of(ip)?, user))
    })
}

/// `0100007F` on a little-endian machine is 127.0.0.1; an IPv6 address is four such words.
fn ip_of(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let digits = hex.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut bytes = [0; 16];
            for at in 0..4 {
                bytes[at * 4..at * 4 + 4].copy_from_slice(&word(at)?);
            }
            Some(Ipv6Addr::from(bytes).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn rows_of_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            \x20  0: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000   998        0 19 1 0\n\
            \x20  1: 00000000:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 20 1 0\n\
            \x20  2: 0100007F:1F91 0100007F:C001 01 00000000:00000000 00:00000000 00000000  1000        0 21 1 0\n\
            \x20  3: 0200007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1001        0 22 1 0\n\
            \x20  4: 00000000000000000000000001000000:1F91 00000000000000000000000000000000:0000 0A 0:0 0:0 0  1002 0 23\n\
            \x20  5: broken\n";
        let at = |address: &str| users(table, address.parse().unwrap());
        assert_eq!(at("127.0.0.1:8081"), [998]);
        assert_eq!(at("127.0.0.2:8081"), [1001]);
        assert_eq!(at("127.0.0.3:8081"), [0]);
        assert_eq!(at("[::1]:8081"), [1002]);
        assert_eq!(at("127.0.0.1:8082"), [] as [u32; 0]);
    }

    #[test]
    fn a_socket_of_this_process() {
        for address in ["127.0.0.1:0", "0.0.0.0:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let port = listener.local_addr().unwrap().port();
            let found = listeners(SocketAddr::from(([127, 0, 0, 1], port)));
            assert_eq!(found, [nix::unistd::geteuid().as_raw()], "{address}");
        }
    }
}
