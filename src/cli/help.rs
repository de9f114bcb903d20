//! Every command: its words, options, operands and the text of `--help`.
//!
//! Long because it is one table, a page of text for each command. Not in here: taking arguments apart
//! ([`super::args`]).

use std::ffi::OsStr;

/// An option.
#[derive(Clone, Copy, Debug)]
pub struct Opt {
    /// Its long name, without dashes.
    pub name: &'static str,
    /// What its value is called; empty: it has none.
    pub value: &'static str,
    /// One line for people.
    pub text: &'static str,
}

const fn opt(name: &'static str, value: &'static str, text: &'static str) -> Opt {
    Opt { name, value, text }
}

/// A command or a group of commands.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Its words, behind `edgeweir`.
    pub words: &'static [&'static str],
    /// One line for the list of commands.
    pub brief: &'static str,
    /// Names of its operands; those in brackets may be left out.
    pub operands: &'static [&'static str],
    /// Its options, beside those that every command takes.
    pub options: &'static [Opt],
    /// The rest of its help: explanation and examples.
    pub text: &'static str,
}

/// Options of every command.
const COMMON: [Opt; 3] = [
    opt("control", "PATH", "the gateway's control socket [/run/edgeweir.sock, EDGEWEIR_CONTROL]"),
    opt("help", "", "this page (-h)"),
    opt("version", "", "the version (-V)"),
];

const FLASH: Opt = opt("flash", "FILE", "work on this store while no gateway runs on it");
const JSON: Opt = opt("json", "", "JSON in place of a table");
const LOG: Opt = opt("log", "LEVEL", "off, error, warn, info, debug or trace [info, EDGEWEIR_LOG]");

/// The program itself.
pub static ROOT: Spec = Spec {
    words: &[],
    brief: "an RTSP gateway between players and cameras or recorders",
    operands: &[],
    options: &[],
    text: "Examples:
  edgeweir config example > gateway.toml    a configuration to start from
  edgeweir run --config gateway.toml        the gateway, in the foreground
  edgeweir probe rtsp://127.0.0.1:8554/cam1 does media come through?
  edgeweir status --watch                   what goes on, once a second

Exit codes: 0 done, 1 failed, 2 wrong usage.
",
};

static COMMANDS: &[Spec] = &[
    Spec {
        words: &["run"],
        brief: "run the gateway in the foreground",
        operands: &[],
        options: &[
            opt("config", "FILE.toml", "configuration as text; changes are not kept"),
            opt("flash", "DEVICE_OR_FILE", "store with configuration and secrets [EDGEWEIR_FLASH]"),
            opt("first-config", "FILE.toml", "what a store that never held a configuration takes"),
            opt("secrets", "FILE.toml", "users and credentials as text, beside --config"),
            opt("data", "DIR", "where plugins are kept [STATE_DIRECTORY, or beside the store]"),
            opt(
                "image-plugins",
                "DIR",
                "plugins compiled with the image [/usr/lib/edgeweir/plugins]",
            ),
            opt("watchdog", "DEVICE", "hardware watchdog, as /dev/watchdog, fed while all is well"),
            opt("note", "TEXT", "said in the log and in `status`, for whoever looks there"),
            opt("healthy-after", "S", "a start that lives so long was good, 1 to 3600 [60]"),
            opt("syslog", "", "the log to /dev/log too"),
            LOG,
        ],
        text:
            "The log goes to stderr. SIGTERM and SIGINT end sessions properly, then the gateway; \
               SIGHUP\nreads the configuration again. After three starts in a row that ended early (see
--healthy-after) the store's previous configuration is taken. systemd is told by NOTIFY_SOCKET.

Examples:
  edgeweir run --config gateway.toml --control /tmp/edgeweir.sock --log debug
  edgeweir run --flash store.bin --first-config gateway.toml
",
    },
    Spec {
        words: &["status"],
        brief: "the gateway, its origins, workers and sessions",
        operands: &[],
        options: &[opt("watch", "", "again once a second, on the whole screen; q ends it"), JSON],
        text: "Without a terminal, --watch prints one snapshot a second as lines of text, or with \
               --json\nas one line of JSON.

Examples:
  edgeweir status --watch
  edgeweir status --json | jq '.origins[] | select(.health != \"up\")'
",
    },
    Spec {
        words: &["sessions"],
        brief: "list the sessions",
        operands: &[],
        options: &[JSON],
        text: "Examples:
  edgeweir sessions
  edgeweir sessions close 17
",
    },
    Spec {
        words: &["sessions", "close"],
        brief: "end a session",
        operands: &["ID"],
        options: &[],
        text: "The player is disconnected and the origin gets its TEARDOWN.

Example:
  edgeweir sessions close 17
",
    },
    Spec {
        words: &["config"],
        brief: "read and change the configuration",
        operands: &[],
        options: &[],
        text: "Changes go to the running gateway, which checks, stores and applies them; with \
               --flash\nthey go to a store that no gateway has open. A wrong file never replaces a \
               good one.

Examples:
  edgeweir config edit
  edgeweir config import gateway.toml
  edgeweir config rollback
",
    },
    Spec {
        words: &["config", "check"],
        brief: "say whether a file is a configuration",
        operands: &["FILE"],
        options: &[opt("flash", "FILE", "the store whose users and credentials it will have")],
        text:
            "Needs no gateway. `-` is stdin. An error names line, key, what was found and what is \
               allowed. A\nwarning names what must be stored beside it.

Examples:
  edgeweir config check gateway.toml
  edgeweir config check gateway.toml --flash store.bin
",
    },
    Spec {
        words: &["config", "import"],
        brief: "make a file the configuration",
        operands: &["FILE"],
        options: &[FLASH],
        text: "Sessions under routes that did not change go on. `-` is stdin.

Examples:
  edgeweir config import gateway.toml
  edgeweir config import gateway.toml --flash store.bin
",
    },
    Spec {
        words: &["config", "export"],
        brief: "print the configuration as TOML",
        operands: &[],
        options: &[FLASH],
        text: "Secrets are not in it.

Example:
  edgeweir config export > gateway.toml
",
    },
    Spec {
        words: &["config", "edit"],
        brief: "edit the configuration with $VISUAL or $EDITOR",
        operands: &[],
        options: &[FLASH],
        text: "What is saved is checked and put in force; when it is wrong, one may edit again.

Example:
  EDITOR=nano edgeweir config edit
",
    },
    Spec {
        words: &["config", "history"],
        brief: "list the stored configurations",
        operands: &[],
        options: &[FLASH, JSON],
        text: "Example:
  edgeweir config history
",
    },
    Spec {
        words: &["config", "rollback"],
        brief: "go back to an earlier configuration",
        operands: &["[N]"],
        options: &[FLASH],
        text: "N says how far back, 1 when it is left out; `edgeweir config history` counts.

Example:
  edgeweir config rollback 2
",
    },
    Spec {
        words: &["config", "example"],
        brief: "print a commented configuration",
        operands: &[],
        options: &[],
        text: "Example:
  edgeweir config example > gateway.toml
",
    },
    Spec {
        words: &["config", "user"],
        brief: "set or remove a user of routes with auth digest or basic",
        operands: &["NAME"],
        options: &[opt("remove", "", "remove the user"), FLASH],
        text: "The password is asked for, or read as one line from stdin. It is stored as a digest.

Examples:
  edgeweir config user anna
  edgeweir config user anna --remove
",
    },
    Spec {
        words: &["config", "secret"],
        brief: "set or remove credentials toward origins",
        operands: &["NAME"],
        options: &[opt("remove", "", "remove the credentials"), FLASH],
        text: "NAME is what `credentials = \"NAME\"` of an origin says. The line user:password is \
               asked for, or\nread from stdin; the password may have colons.

Examples:
  edgeweir config secret nvr
  echo admin:swordfish | edgeweir config secret nvr
",
    },
    Spec {
        words: &["config", "token"],
        brief: "set or remove the bearer token of the control API over TCP",
        operands: &[],
        options: &[opt("remove", "", "remove the token: nobody may control over TCP"), FLASH],
        text: "The token (16 to 64 characters) is asked for, or read as one line from stdin. It \
               matters where\n`gateway.control` names an address; the Unix socket needs none.

Example:
  head -c 24 /dev/urandom | base64 | tee token | edgeweir config token
",
    },
    Spec {
        words: &["origin"],
        brief: "add, list and try cameras and recorders",
        operands: &[],
        options: &[],
        text: "Examples:
  edgeweir origin add door rtsp://192.0.2.30/cam/realmonitor?channel=1 --user admin
  edgeweir origin list
  edgeweir origin retry door
",
    },
    Spec {
        words: &["origin", "add"],
        brief: "add a camera or recorder, and a route to it",
        operands: &["NAME", "URL"],
        options: &[
            opt("user", "USER", "user at the camera; the password is asked for"),
            opt("password-file", "FILE", "the password from a file [EDGEWEIR_PASSWORD]"),
            opt("route", "/PATH", "where players find it [/NAME]"),
            opt("auth", "HOW", "who may watch: digest, basic, none, pass or plugin:SLOT"),
            opt("transport", "udp|tcp", "how media comes from it [as players ask, if both work]"),
            opt("no-probe", "", "do not look at it first"),
            opt("force", "", "even if something is wrong with it"),
            FLASH,
        ],
        text: "The URL is taken as people have it, with user, path and query. The gateway looks at the
camera as it will for players, says what it found, and takes origin, route and
credentials. A password in the URL works, but others can see it there.

Examples:
  edgeweir origin add door rtsp://192.0.2.30/Streaming/Channels/101 --user admin
  edgeweir origin add yard 'rtsp://192.0.2.31/cam/realmonitor?channel=1' --route /yard
  EDGEWEIR_PASSWORD=$PW edgeweir origin add gate 192.0.2.32/live --user admin --auth digest
",
    },
    Spec {
        words: &["origin", "list"],
        brief: "list the origins and how they are",
        operands: &[],
        options: &[JSON],
        text: "Example:
  edgeweir origin list
",
    },
    Spec {
        words: &["origin", "retry"],
        brief: "end the wait of an origin that is down",
        operands: &["NAME"],
        options: &[],
        text: "Example:
  edgeweir origin retry door
",
    },
    Spec {
        words: &["doctor"],
        brief: "say what is wrong with origins, gateway and machine",
        operands: &[],
        options: &[JSON],
        text: "Asks each origin as the gateway does, over UDP and TCP, and looks at ports, descriptors,
kernel buffers, clock, store, disk and plugins. The worst comes first, each with what to
do. Ends with 0 only if nothing is an error. An origin is played for some seconds, which
takes a session there.

Examples:
  edgeweir doctor
  edgeweir doctor --json | jq '.findings[] | select(.severity == \"error\")'
",
    },
    Spec {
        words: &["support"],
        brief: "write an archive for whoever helps, without secrets",
        operands: &["[FILE.tar]"],
        options: &[opt("no-probe", "", "do not ask the origins")],
        text: "Status, sessions, configuration, history, plugins, metrics and what doctor finds.

Example:
  edgeweir support
",
    },
    Spec {
        words: &["plugin"],
        brief: "put components into slots of the running gateway",
        operands: &[],
        options: &[],
        text: "Slots are named in the configuration, [[plugin]]. What a slot holds outlives the \
               gateway's restart.

Examples:
  edgeweir plugin install geo.wasm --slot balancer
  edgeweir plugin list
  edgeweir plugin rollback balancer
",
    },
    #[cfg(feature = "compiler")]
    Spec {
        words: &["plugin", "check"],
        brief: "try a component without a gateway",
        operands: &["FILE"],
        options: &[
            opt("config", "JSON", "its [plugin.config] as a JSON object, or @FILE [{}]"),
            opt("secrets", "FILE.toml", "users and credentials that it may have used, as for run"),
            JSON,
        ],
        text: "Everything that an install does before it puts a component in force: what it \
               imports and\nexports, what its hooks say to made-up sessions, their CPU time as \
               machine code and\ninterpreted (as on armv7), and their memory. `-` is stdin.

Examples:
  edgeweir plugin check geo.wasm
  edgeweir plugin check geo.wasm --config '{\"sticky_s\":300}' --json | jq .native.samples
  edgeweir plugin check token-gate.wasm --config '{\"key\":\"portal\"}' --secrets secrets.toml
",
    },
    #[cfg(feature = "compiler")]
    Spec {
        words: &["plugin", "compile"],
        brief: "compile a component for the image of a build without compiler",
        operands: &["FILE"],
        options: &[
            opt("to", "DIR", "where the image is made; must be given"),
            opt("code", "KIND", "native (this kind of machine), pulley32 or pulley64 [native]"),
        ],
        text: "A build without compiler runs a component only if its code lies in the image, in\n\
               /usr/lib/edgeweir/plugins (run --image-plugins), to which only root or the user of the\n\
               gateway may write, as to all directories above. It fits the version of the program\n\
               that made it. armv7 runs pulley32, which any machine can make.\n\
               The component itself is installed as ever.

Examples:
  edgeweir plugin compile least-loaded.wasm --code pulley32 --to rootfs/usr/lib/edgeweir/plugins
",
    },
    Spec {
        words: &["plugin", "install"],
        brief: "check a component and put it in force",
        operands: &["FILE"],
        options: &[
            opt("slot", "NAME", "where, as in the configuration; must be given"),
            opt("signature", "FILE", "what minisign wrote for it"),
            opt("serial", "N", "must be larger than that of the one before"),
            opt("force", "", "even if it is older, or was rolled back for its faults"),
            JSON,
        ],
        text: "No session ends and no packet is lost. What is refused changes nothing; what fails \
               in its\nfirst minute is rolled back by itself. `-` is stdin.

Examples:
  edgeweir plugin install geo.wasm --slot balancer
  edgeweir plugin install geo.wasm --slot balancer --signature geo.wasm.minisig --serial 7
",
    },
    Spec {
        words: &["plugin", "list"],
        brief: "list the slots and what they hold",
        operands: &[],
        options: &[JSON],
        text: "Example:
  edgeweir plugin list
",
    },
    Spec {
        words: &["plugin", "rollback"],
        brief: "put the component in force that was there before",
        operands: &["SLOT"],
        options: &[],
        text: "Example:
  edgeweir plugin rollback balancer
",
    },
    Spec {
        words: &["plugin", "remove"],
        brief: "empty a slot",
        operands: &["SLOT"],
        options: &[],
        text: "Balancing falls back to least-sessions, filters do what on_fault says, and \
               authentication\nlets nobody in.

Example:
  edgeweir plugin remove balancer
",
    },
    Spec {
        words: &["probe"],
        brief: "play a URL and say what comes",
        operands: &["[URL]"],
        options: &[
            opt("origin", "NAME", "the gateway looks at its origin, with the credentials it has"),
            opt("transport", "udp|tcp", "how media comes [udp]"),
            opt("seconds", "N", "for so long, 1 to 86400 [10]"),
            JSON,
            LOG,
        ],
        text: "Prints tracks, packets, loss, jitter and the time to the first packet; ends with 0 \
               only if media\ncame. User and password may stand in the URL. With --origin a path at it may stand
in place of the URL; it is played over UDP and over TCP.

Examples:
  edgeweir probe rtsp://127.0.0.1:8554/cam1
  edgeweir probe --origin nvr /Streaming/Channels/101
  edgeweir probe rtsp://anna:swordfish@192.0.2.1/cam1 --transport tcp --seconds 60 --json
",
    },
    Spec {
        words: &["camera"],
        brief: "a synthetic camera, for demos and tests",
        operands: &[],
        options: &[
            opt("listen", "ADDRESS:PORT", "where; port 0 takes a free one [127.0.0.1:8555]"),
            opt("name", "TEXT", "its name in the SDP"),
            opt("user", "USER:PASSWORD", "asks players for this by digest"),
            opt("audio", "", "a tone as a second track"),
            opt("fps", "N", "frames a second, 1 to 120 [25]"),
            opt("kbit", "N", "least bit rate of the video in kbit/s, up to 50000"),
            opt("session-timeout", "S", "seconds, 1 to 3600 [60]"),
            opt("freeze-after", "S", "for tests: media stops so long after the first PLAY"),
            opt("die-after", "S", "for tests: it ends so long after the first PLAY"),
            LOG,
        ],
        text: "It answers any path with moving H.264 pictures, over UDP and interleaved.

Examples:
  edgeweir camera --audio
  edgeweir camera --listen 0.0.0.0:554 --user admin:swordfish --kbit 4000
",
    },
    Spec {
        words: &["flash"],
        brief: "make and look at stores",
        operands: &[],
        options: &[],
        text: "Examples:
  edgeweir flash format store.bin
  edgeweir flash info store.bin
",
    },
    Spec {
        words: &["flash", "format"],
        brief: "make an empty store",
        operands: &["DEVICE_OR_FILE"],
        options: &[
            opt("size", "BYTES", "size of a file that is made; K and M may follow [1M]"),
            opt("force", "", "even over something that is there"),
        ],
        text: "A device is a NOR partition (/dev/mtdN with erase blocks of 4, 64, 128 or 256 KiB) or a \
               partition\nof a disk, 512 KiB to 64 MiB. What is mounted or in use is refused, also with \
               --force.

Examples:
  edgeweir flash format /dev/mtd2
  edgeweir flash format store.bin
  edgeweir flash format store.bin --size 2M --force
",
    },
    Spec {
        words: &["flash", "info"],
        brief: "geometry, use and wear of a store",
        operands: &["DEVICE_OR_FILE"],
        options: &[JSON],
        text: "Says also which blocks are bad or locked, and what is stored, by format. While the gateway \
               runs,\nit has the store for itself.

Examples:
  edgeweir flash info /dev/mtd2
  edgeweir flash info store.bin
",
    },
];

/// The command that `word` names under `above`.
pub fn below(above: &Spec, word: &OsStr) -> Option<&'static Spec> {
    let word = word.to_str()?;
    COMMANDS.iter().find(|spec| {
        spec.words.split_last().is_some_and(|(last, rest)| *last == word && rest == above.words)
    })
}

/// The option of that name which the command takes.
pub fn option(spec: &Spec, name: &str) -> Option<&'static Opt> {
    options(spec).find(|option| option.name == name)
}

/// The options that a command takes.
pub fn options(spec: &Spec) -> impl Iterator<Item = &'static Opt> {
    spec.options.iter().chain(&COMMON)
}

/// The words that may stand behind those of a command.
pub fn words_below(above: &Spec) -> impl Iterator<Item = &'static str> {
    let depth = above.words.len();
    let below = COMMANDS.iter().filter(move |spec| spec.words.starts_with(above.words));
    below.filter_map(move |spec| spec.words.get(depth).copied())
}

/// The first command whose last word this is.
pub fn ending_in(word: &str) -> Option<&'static Spec> {
    COMMANDS.iter().find(|spec| spec.words.len() > 1 && spec.words.last() == Some(&word))
}

impl Spec {
    /// The command as it is typed.
    pub fn full_name(&self) -> String {
        core::iter::once("edgeweir").chain(self.words.iter().copied()).collect::<Vec<_>>().join(" ")
    }

    /// Whether it does nothing without another word.
    pub fn is_group(&self) -> bool {
        matches!(self.words, [] | ["config" | "flash" | "plugin" | "origin"])
    }

    /// What `--help` prints.
    pub fn page(&self) -> String {
        let mut page = format!("{}: {}\n\nUsage: {}", self.full_name(), self.brief, self.usage());
        let under: Vec<&Spec> = COMMANDS
            .iter()
            .filter(|spec| {
                spec.words.len() > self.words.len() && spec.words.starts_with(self.words)
            })
            .filter(|spec| !spec.is_group())
            .collect();
        if !under.is_empty() {
            page.push_str("\n\nCommands:\n");
            let rows = under.iter().map(|spec| (spec.call(), spec.brief));
            page.push_str(&listing(rows));
        } else {
            page.push_str("\n\n");
        }
        page.push_str("\nOptions:\n");
        page.push_str(&listing(options(self).map(|option| (option.call(), option.text))));
        if !self.text.is_empty() {
            page.push('\n');
            page.push_str(self.text);
        }
        page.replace("\n\n\n", "\n\n")
    }

    fn usage(&self) -> String {
        let rest = if self.is_group() { "COMMAND [OPTION]...".to_owned() } else { self.rest() };
        format!("{} {rest}", self.full_name())
    }

    fn rest(&self) -> String {
        let operands = self.operands.iter().copied();
        operands.chain(core::iter::once("[OPTION]...")).collect::<Vec<_>>().join(" ")
    }

    fn call(&self) -> String {
        let words = self.words.iter().chain(self.operands).copied();
        words.collect::<Vec<_>>().join(" ")
    }
}

impl Opt {
    fn call(&self) -> String {
        let space = if self.value.is_empty() { "" } else { " " };
        format!("--{}{space}{}", self.name, self.value)
    }
}

/// Two columns.
fn listing<'a>(rows: impl Iterator<Item = (String, &'a str)>) -> String {
    let rows: Vec<_> = rows.collect();
    let wide = rows.iter().map(|(call, _)| call.len()).max().unwrap_or(0);
    rows.iter().map(|(call, text)| format!("  {call:<wide$}  {text}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_has_usage_options_and_an_example_and_fits_100_columns() {
        for spec in COMMANDS.iter().chain([&ROOT]) {
            let page = spec.page();
            let name = spec.full_name();
            assert!(page.starts_with(&format!("{name}: ")), "{page}");
            assert!(
                page.contains("\n\nUsage: edgeweir") && page.contains("--control PATH"),
                "{page}"
            );
            assert!(page.contains("Example"), "{page}");
            for line in page.lines() {
                assert!(line.chars().count() <= 100, "{name}: {line}");
                assert_eq!(line, line.trim_end(), "{name}");
            }
        }
    }

    #[test]
    fn no_command_or_option_is_there_twice() {
        for (at, spec) in COMMANDS.iter().enumerate() {
            assert!(COMMANDS.iter().skip(at + 1).all(|other| other.words != spec.words));
            let names: Vec<_> =
                spec.options.iter().chain(&COMMON).map(|option| option.name).collect();
            let mut unique = names.clone();
            unique.sort_unstable();
            unique.dedup();
            assert_eq!(unique.len(), names.len(), "{}", spec.full_name());
        }
    }

    #[test]
    fn the_first_page_lists_every_command() {
        let page = ROOT.page();
        for spec in COMMANDS.iter().filter(|spec| !spec.is_group()) {
            assert!(page.contains(&format!("\n  {}", spec.call())), "{}", spec.full_name());
        }
    }
}
