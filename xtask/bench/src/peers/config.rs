//! Configurations of the contenders: each as its manual has it for one processor.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use xlb_tests::lab::Lab;

use super::site::{BACKEND_PORT, VIP, VIP_PORT, backend_endpoints};

/// Where Debian has nginx's stream module; other systems have it built in.
const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// Bytes of what is asked for where bytes are what is measured.
pub(super) const BULK_BYTES: u64 = 16 << 20;
/// Its path.
pub(super) const BULK_PATH: &str = "/bulk";

/// A server that answers on any address.
pub(super) fn nginx_backend(lab: &Lab) -> PathBuf {
    let directory = lab.directory();
    std::fs::write(
        directory.join("bulk"),
        vec![b'x'; usize::try_from(BULK_BYTES).expect("it fits into memory")],
    )
    .expect("write what is asked for");
    let text = nginx(
        directory,
        "backend",
        &format!(
            "http {{\naccess_log off;\nsendfile on;\nkeepalive_requests 100000000;\n{}\
             server {{\nlisten {VIP_PORT} backlog=4096;\nlisten {BACKEND_PORT} backlog=4096;\n\
             root {};\nlocation = / {{ return 200 \"ok\\n\"; }}\n}}\n}}\n",
            temporary(directory),
            directory.display()
        ),
    );
    lab.write_file("backend.conf", &text)
}

/// nginx as a balancer of connections.
pub(super) fn nginx_stream(lab: &Lab) -> PathBuf {
    let servers: String = backend_endpoints()
        .map(|endpoint| format!("server {endpoint};\n"))
        .collect();
    let module = if Path::new(STREAM_MODULE).exists() {
        format!("load_module {STREAM_MODULE};\n")
    } else {
        String::new()
    };
    let stream = format!(
        "stream {{\nupstream backends {{\n{servers}}}\nserver {{\n\
         listen {VIP}:{VIP_PORT} backlog=4096;\nproxy_pass backends;\n}}\n}}\n"
    );
    let text = module + &nginx(lab.directory(), "stream", &stream);
    lab.write_file("stream.conf", &text)
}

/// One process: what a second one would do is nothing that a processor does less of.
fn nginx(directory: &Path, name: &str, body: &str) -> String {
    let directory = directory.display();
    format!(
        "user root;\ndaemon off;\nmaster_process off;\npid {directory}/{name}.pid;\n\
         error_log {directory}/{name}-error.log;\nevents {{ worker_connections 4096; }}\n{body}"
    )
}

fn temporary(directory: &Path) -> String {
    ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {}/{kind};\n", directory.display()))
        .collect()
}

/// HAProxy in TCP mode.
pub(super) fn haproxy(lab: &Lab) -> PathBuf {
    let mut text = format!(
        "global\n    nbthread 1\n    maxconn 4096\ndefaults\n    mode tcp\n    balance roundrobin\n\
         \x20   timeout connect 5s\n    timeout client 60s\n    timeout server 60s\n\
         listen web\n    bind {VIP}:{VIP_PORT} backlog 4096\n"
    );
    for (number, endpoint) in backend_endpoints().enumerate() {
        let _ = writeln!(text, "    server backend{number} {endpoint} check");
    }
    lab.write_file("haproxy.cfg", &text)
}

/// Destination NAT, with what chooses one of four.
pub(super) fn nftables(choice: &str) -> String {
    let backends: Vec<String> = backend_endpoints()
        .enumerate()
        .map(|(number, endpoint)| format!("{number} : {} . {}", endpoint.ip(), endpoint.port()))
        .collect();
    format!(
        "table ip balancer {{\n    chain prerouting {{\n        \
         type nat hook prerouting priority dstnat; policy accept;\n        \
         ip daddr {VIP} tcp dport {VIP_PORT} dnat ip addr . port to {choice} map {{ {} }}\n    \
         }}\n}}\n",
        backends.join(", ")
    )
}

/// xlb, with health checks as somebody would have them.
pub(super) fn xlb(mode: &str) -> String {
    let backends: String = backend_endpoints()
        .map(|endpoint| {
            format!(
                "  {{ address = \"{}\", port = {} }},\n",
                endpoint.ip(),
                endpoint.port()
            )
        })
        .collect();
    format!(
        "[dataplane]\ninterfaces = [\"eth0\", \"eth1\"]\n\n[[pool]]\nname = \"web\"\n\
         backends = [\n{backends}]\n\
         check = {{ type = \"tcp\", interval = \"1s\", timeout = \"1s\", rise = 2, fall = 3 }}\n\n\
         [[service]]\nname = \"web\"\nvip = \"{VIP}\"\nport = {VIP_PORT}\n\
         forward = \"{mode}\"\npool = \"web\"\n"
    )
}

#[cfg(test)]
mod tests {
    use xlb_control::config::Config;

    use super::*;

    #[test]
    fn xlbs_configurations_are_valid() {
        for mode in ["dnat", "l2-dsr"] {
            let loaded = Config::parse("bench.toml", &xlb(mode))
                .unwrap_or_else(|error| panic!("{mode}: {error}"));
            assert_eq!(loaded.config.pools["web"].backends.len(), 4);
        }
    }

    #[test]
    fn nftables_has_a_backend_for_every_choice() {
        let text = nftables("numgen inc mod 4");
        for number in 0..4 {
            let part = format!("{number} : 10.80.1.{} . 8080", 11 + number);
            assert!(text.contains(&part), "{text}");
        }
    }
}
