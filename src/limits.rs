//! Every bound in the program, with its unit in the name and its reason in the doc.
//!
//! A bound that an installer may want to change is a key of the configuration; its default and its
//! largest value stand here too.

// --- RTSP framing -------------------------------------------------------------------------------

/// Longest request line or status line: the longest URL, method and version.
pub const START_LINE_MAX_BYTES: usize = URL_MAX_BYTES + 256;
/// Longest method. The longest known one, GET_PARAMETER, has 13; text of another protocol that never
/// ends a word is told apart here.
pub const METHOD_MAX_BYTES: usize = 64;
/// Longest header line, folded continuation lines included. Digest Authorization repeats the URL and
/// stays under 1 KiB else.
pub const HEADER_LINE_MAX_BYTES: usize = URL_MAX_BYTES + 1024;
/// Most headers in one message. Players send about 10, cameras about 15.
pub const HEADERS_MAX: usize = 64;
/// Longest head: start line, headers and the empty line. The longest URL fits twice, as it comes with
/// digest.
pub const HEAD_MAX_BYTES: usize = 24 * 1024;
/// Longest message body. SDP of a camera is 0.5 to 4 KiB; ONVIF parameters somewhat more.
pub const BODY_MAX_BYTES: usize = 64 * 1024;
/// Longest payload of an interleaved frame: its length field has 16 bits.
pub const FRAME_MAX_BYTES: usize = 65_535;
/// Bytes of an origin without sense that are skipped in search of its next frame; then its connection is
/// of no use. One frame of the largest size, of which the beginning was lost.
pub const RESYNC_MAX_BYTES: usize = 64 * 1024;
/// Empty lines tolerated before a message, in bytes (leading CRLFs).
pub const BLANK_MAX_BYTES: usize = 64;
/// Transport specs looked at in one Transport header; later ones are ignored.
pub const TRANSPORT_SPECS_MAX: usize = 16;
/// Longest Session id (RFC 7826 4.3: 8 to 128 octets; cameras send from 1 octet).
pub const SESSION_ID_MAX_BYTES: usize = 128;
/// Longest URL: with a JWT of a VMS in its query, where the names of its rights may fill 4 KiB.
pub const URL_MAX_BYTES: usize = 8192;
/// Presentations that a connection holds grants for: a player has one, a VMS describes a few before
/// it sets one up.
pub const GRANTS_MAX: usize = 4;

// --- Sessions -----------------------------------------------------------------------------------

/// Tracks set up in one session. Cameras offer two or three, multi-sensor ones up to eight.
pub const TRACKS_MAX: usize = 16;
/// Outstanding requests a side (RFC 7826 10.2); past that the connection is not read.
pub const OUTSTANDING_MAX: usize = 10;
/// Replies and requests waiting to be written to one peer; past that its requests are not read.
pub const REPLY_QUEUE_SOFT_BYTES: usize = 64 * 1024;
/// Past this a peer that does not read is hung up on: no reply is ever dropped.
pub const REPLY_QUEUE_HARD_BYTES: usize = 256 * 1024;
/// Connections that are accepted in one turn of a listening socket, 20 µs each on a PC.
pub const ACCEPTS_PER_TURN: usize = 16;
/// Messages of one peer that are worked off in one turn; then the other connections of the worker
/// have theirs. An honest player sends one or two at a time; 16 cost under 0.2 ms on a PC.
pub const TURN_MESSAGES: usize = 16;
/// Time of one turn, looked at after each message: on a small board, or where plugins are asked, 16 of
/// them take longer.
pub const TURN_MS: u64 = 1;
/// Interleaved frames of one peer in one turn. A read of [`TURN_BYTES`] has 50 of video.
pub const TURN_FRAMES: usize = 512;
/// Bytes of one peer in one turn, but for the unit that reaches the bound: one read.
pub const TURN_BYTES: usize = FRAME_MAX_BYTES + 1 + 4;
/// Messages of a peer that nobody asked for (answers to no request, requests past the bound) since
/// its last answer that was waited for; past that its connection ends. Cameras that answer twice are
/// known.
pub const UNASKED_MAX: u16 = 64;
/// How long an origin may take to end a session that its client has left for another one on the same
/// connection, in milliseconds; then the new one is asked for.
pub const LEFT_TEARDOWN_WAIT_MS: u64 = 2_000;
/// Answers that say to wait (1xx) since the last answer that was waited for.
pub const INTERIM_ANSWERS_MAX: u16 = 64;
/// Numbers of requests remembered that were given up: what comes late is known for what it is.
pub const GIVEN_UP_MAX: usize = 16;
/// How long a client that has torn down and closed its half of the connection waits for the answer.
pub const TEARDOWN_LAST_MS: u64 = 1_000;
/// Interleaved channels: one byte.
pub const CHANNELS_MAX: usize = 256;

/// Descriptors that a client's connection may take: its own and one toward an origin.
pub const DESCRIPTORS_A_CONNECTION: usize = 2;
/// Descriptors that a track may take: a pair toward each side.
pub const DESCRIPTORS_A_TRACK: usize = 4;
/// Descriptors that players leave to the control socket, checks of origins and files, where the limit
/// is not very low.
pub const DESCRIPTORS_KEPT: usize = 32;
/// Requests in memory of one connection; past that it is not read until one of them is answered.
pub const REQUESTS_KEPT_OF_CONNECTION_BYTES: usize = 64 * 1024;
/// Requests in memory of one address (outstanding ones and unfinished ones); past that the connection
/// with the most of it ends.
pub const REQUESTS_KEPT_OF_PEER_BYTES: usize = 2 * 1024 * 1024;
/// Requests in memory of all clients.
pub const REQUESTS_KEPT_OF_ALL_BYTES: usize = 16 * 1024 * 1024;
/// Of a connection only changes of what it keeps are told that are larger.
pub const REQUESTS_KEPT_STEP_BYTES: usize = 16 * 1024;
/// How long a SETUP waits for ports or descriptors of a session that gives way to it.
pub const GIVE_WAY_MS: u64 = 500;

// --- Origins ------------------------------------------------------------------------------------

/// Addresses kept for the host name of an origin; more are left out.
pub const ORIGIN_ADDRS_MAX: usize = 4;
/// First wait for an origin that failed (RFC 7826 10.7).
pub const BACKOFF_FIRST_MS: u64 = 5_000;
/// Longest wait, before the jitter of 0.5 to 1.5.
pub const BACKOFF_LONGEST_MS: u64 = 30 * 60 * 1000;
/// Useless answers (5xx, no RTSP) to our own questions, in a row, that take an origin out of service.
pub const BAD_ANSWERS_TO_DOWN: u8 = 3;
/// How long media or an answer of an origin outweighs all that speaks against it.
pub const ORIGIN_LIFE_HOLDS_MS: u64 = 5_000;
/// Connections of one client that only ask at one origin; the next one waits. A VMS that begins
/// hundreds of sessions at once asks by so many at a time.
pub const ASKING_PER_CLIENT_MAX: u16 = 16;
/// How often one that waits looks whether there is room, in milliseconds.
pub const ASKING_RETRY_MS: u64 = 50;
/// How long a connection to an origin is kept that has no session and asks nothing more.
pub const ASKING_IDLE_MS: u64 = 5_000;
/// Redirects of an origin that are followed for one request.
pub const REDIRECTS_MAX: u8 = 3;
/// How long the only origin of a route is left alone after a failure: there is nobody else to ask, so
/// only a crowd of players is kept from it.
pub const ONLY_ORIGIN_WAIT_MS: u64 = 1_000;
/// A trial whose end nobody reports is over after so long: connecting and one answer fit twice.
pub const TRIAL_LONGEST_MS: u64 = 30_000;
/// What a client is told to wait for an origin whose name is not resolved yet.
pub const UNRESOLVED_RETRY_MS: u64 = 2_000;
/// Traffic assumed for a session too new to be measured: a camera's main stream.
pub const SESSION_ESTIMATE_KBIT: u32 = 4_000;

// --- Authentication -----------------------------------------------------------------------------

/// Longest value of WWW-Authenticate or Authorization that is looked at.
pub const AUTH_VALUE_MAX_BYTES: usize = HEADER_LINE_MAX_BYTES;
/// Most parameters in one challenge or Authorization; digest has about a dozen.
pub const AUTH_PARAMS_MAX: usize = 32;
/// Most challenges looked at in one answer.
pub const AUTH_CHALLENGES_MAX: usize = 8;
/// Age at which a nonce of ours is stale.
pub const NONCE_LIFETIME_MS: u64 = 5 * 60 * 1000;
/// How often passwords of an address are checked that has been wrong lately.
pub const GUESS_EVERY_MS: u64 = 500;
/// How long the answer to the first wrong password of an address takes; twice as long each time.
pub const GUESS_ANSWER_FIRST_MS: u64 = 250;
/// The longest that it takes.
pub const GUESS_ANSWER_LAST_MS: u64 = 4_000;
/// After so long without a wrong password an address starts anew.
pub const GUESS_FORGOTTEN_MS: u64 = 10 * 60 * 1000;
/// Addresses that are remembered for wrong passwords.
pub const GUESSERS_MAX: usize = 1024;
/// Wrong passwords after which a connection ends.
pub const WRONG_PASSWORDS_A_CONNECTION: u8 = 5;
/// Challenges in a row that the gateway answers before it takes its password for wrong: the first
/// and one new nonce. Cameras lock an account after about five wrong answers.
pub const CHALLENGES_IN_A_ROW_MAX: u8 = 2;

// --- Configuration ------------------------------------------------------------------------------

/// Longest name of an origin, user, credential, or Via pseudonym.
pub const NAME_MAX_BYTES: usize = 32;
/// Longest origin URL.
pub const ORIGIN_URL_MAX_BYTES: usize = 256;
/// Longest route path.
pub const ROUTE_PATH_MAX_BYTES: usize = 128;
/// Listen addresses.
pub const LISTEN_MAX: usize = 4;
/// Origins in a configuration.
pub const ORIGINS_MAX: usize = 128;
/// Routes in a configuration.
pub const ROUTES_MAX: usize = 128;
/// All of a configuration on flash. As many origins and routes as there may be fit with 240 bytes for
/// a pair; not all of them can be at their longest. Six of the largest, the secrets and the plugin
/// slots fit one page of 256 KiB, which is all that the smallest store may have beside its spare one.
pub const CONFIG_IMAGE_MAX_BYTES: usize = 35 * 1024;
/// Origins of one route.
pub const ROUTE_ORIGINS_MAX: usize = 8;
/// Plugin slots in a configuration.
pub const PLUGIN_SLOTS_MAX: usize = 8;
/// Longest `[plugin.config]` of one slot, as JSON.
pub const PLUGIN_CONFIG_MAX_BYTES: usize = 1024;
/// Deepest nesting of a `[plugin.config]`, its own table counted.
pub const PLUGIN_CONFIG_DEPTH_MAX: usize = 8;
/// `[plugin.config]` of all slots together, as JSON: half of what eight slots could ask for, since
/// the configuration is held whole in memory.
pub const PLUGIN_CONFIGS_MAX_BYTES: usize = 4 * 1024;
/// Clients and paths whose origin is remembered for balancing plugins, 64 bytes each; the oldest half
/// is forgotten when they are reached.
pub const STICKY_MAX: usize = 4096;
/// Filters of one route.
pub const ROUTE_FILTERS_MAX: usize = 4;
/// Public keys that may sign plugins: two in use, two to change to.
pub const TRUSTED_KEYS_MAX: usize = 4;
/// A public key of minisign: 42 bytes in base64.
pub const TRUSTED_KEY_BYTES: usize = 56;
/// Largest component that is taken unless `plugins.max_kib` says otherwise, in KiB.
pub const PLUGIN_KIB_DEFAULT: u16 = 256;
/// Largest component that may be allowed at all, in KiB.
pub const PLUGIN_KIB_MAX: u16 = 1024;
/// How long a worker may let a burst gather unless `gateway.coalesce_us` says otherwise, in
/// microseconds.
pub const COALESCE_US_DEFAULT: u16 = 300;
/// The longest that it may be told to, in microseconds.
pub const COALESCE_US_MAX: u16 = 500;
/// Worker threads.
pub const WORKERS_MAX: usize = 16;
/// Users that may be known for `digest` and `basic`.
pub const USERS_MAX: usize = 32;
/// Stored credentials toward origins: each may have its own.
pub const CREDENTIALS_MAX: usize = ORIGINS_MAX;
/// Previous configurations kept for rollback.
pub const CONFIG_HISTORY: usize = 4;
/// Largest configuration text that is read. The longest one that means something is under 100 KiB;
/// the rest is room for comments.
pub const CONFIG_TEXT_MAX_BYTES: usize = 256 * 1024;
/// Longest user name toward an origin.
pub const CREDENTIAL_USER_MAX_BYTES: usize = 64;
/// Longest password, of a user and toward an origin.
pub const PASSWORD_MAX_BYTES: usize = 128;
/// Longest bearer token of the control API.
pub const CONTROL_TOKEN_MAX_BYTES: usize = 64;
/// Shortest bearer token of the control API: 16 characters of base64 are 96 bits.
pub const CONTROL_TOKEN_MIN_BYTES: usize = 16;
/// Smallest store on flash: five of the largest configurations and the secrets, with room to move.
pub const STORE_MIN_BYTES: u32 = 512 * 1024;
/// Largest store on flash. Recognising a store reads it once, which takes a second at this size.
pub const STORE_MAX_BYTES: u32 = 64 * 1024 * 1024;

/// Plugin slots on flash: 16 slots of two hashes, serials and fault counts are under 2 KiB.
pub const STORE_SLOTS_MAX_BYTES: usize = 8 * 1024;
/// Starts in a row that may end early before the previous configuration is taken.
pub const EARLY_DEATHS: u8 = 3;

// --- Watchdog -----------------------------------------------------------------------------------

/// A worker that has not gone round its loop for so long hangs. It goes round once a second when
/// there is nothing to do; the longest thing it does is a hook with its CPU budget.
pub const WORKER_STUCK_MS: u64 = 5_000;

// --- Camera and probe ---------------------------------------------------------------------------

/// Largest RTP payload of the synthetic camera: with all headers within an Ethernet MTU of 1500.
pub const RTP_PAYLOAD_MAX_BYTES: usize = 1400;
/// Connections that the synthetic camera serves at a time.
pub const CAMERA_CONNECTIONS_MAX: usize = 1024;
/// Media units that wait for one slow player of the synthetic camera; past that it loses whole ones.
pub const CAMERA_QUEUE_UNITS: usize = 32;
/// Tracks that the probe plays; later ones of an SDP are left out.
pub const PROBE_TRACKS_MAX: usize = 8;
/// Answers other than 2xx (challenges, retries) that the probe takes for one request.
pub const PROBE_ATTEMPTS_MAX: usize = 3;
/// Bytes that the probe holds of an unfinished message or frame, and the camera of a request.
pub const PEER_BUFFER_MAX_BYTES: usize = HEAD_MAX_BYTES + BODY_MAX_BYTES + 4;

// --- Media --------------------------------------------------------------------------------------

/// Longest UDP payload over IPv4; longer ones (IPv6, interleaved frames) cannot be relayed.
pub const DATAGRAM_MAX_BYTES: usize = 65_507;
/// Datagrams taken or sent by one system call. More than most frames have, since only a call that
/// is not filled says that there are no more.
pub const BATCH_DATAGRAMS: usize = 32;
/// Datagrams that one socket may have in one round, so that a flood does not starve the others; the
/// batch that reaches it is still relayed whole.
pub const DATAGRAMS_PER_ROUND: usize = 128;
/// Segments that leave in one call (`UDP_MAX_SEGMENTS` of Linux before 6.9).
pub const SEGMENTS_MAX: usize = 64;
/// Events that a worker takes from the kernel at once.
pub const EVENTS_PER_WAIT: usize = 256;
/// Jobs waiting for one worker (connections handed over, pipes opened); past that `Busy`.
pub const MAILBOX_MAX: usize = 4096;
/// Receive buffer asked for on a media socket: 212,992 bytes (the default) hold about 92 datagrams
/// and lose the burst of a key frame.
pub const MEDIA_SOCKET_BUFFER_BYTES: usize = 1 << 20;
/// Send buffer asked for on a media socket: eight key frames of 250 KB. Toward a port of 100 Mbit/s the
/// default lost a third of such frames (`BENCH=slow-link`). What is not sent costs nothing.
pub const MEDIA_SEND_BUFFER_BYTES: usize = 2 << 20;
/// Bytes that the kernel takes of an interleaved peer's media before it can send them. What lies there
/// cannot be dropped any more when the link falls: 32 KiB are a quarter of a second at 1 Mbit/s, where
/// 4 MiB (the kernel's own bound) are half a minute. The queue with its bounds lies before it.
pub const TCP_UNSENT_MAX_BYTES: u32 = 32 * 1024;
/// Media that waits for a player which sets the pace itself (`Rate-Control: no`); past that its origin
/// is not read. Room for a turn's reading in front of it, so that neither side stands still.
pub const PACED_QUEUE_BYTES: usize = 128 * 1024;
/// How long after PLAY other ports of a peer's host than the announced ones may be learned. A
/// player's first report comes within 7.5 s (RFC 3550 6.2), after which players turn to TCP.
pub const LEARN_AFTER_PLAY_MS: u64 = 10_000;
/// Port pairs tried for one pipe when other programs hold ports of the range.
pub const PORT_TRIES_MAX: usize = 64;

// --- Control API --------------------------------------------------------------------------------

/// Longest body of a request to the control API. The largest configuration is under 100 KiB of TOML.
pub const CONTROL_BODY_MAX_BYTES: usize = 256 * 1024;
/// Longest signature file of a component; minisign's have about 300 bytes.
pub const PLUGIN_SIGNATURE_MAX_BYTES: usize = 1024;
/// Origins that the gateway looks at for operators at once; a look may take a minute.
pub const PROBES_AT_ONCE_MAX: usize = 8;
/// Longest head of a request to the control API.
pub const CONTROL_HEAD_MAX_BYTES: usize = 16 * 1024;
/// Most headers of a request to the control API.
pub const CONTROL_HEADERS_MAX: usize = 64;
/// Connections to the control API at once, on the Unix socket and again on TCP; later ones wait.
pub const CONTROL_CONNECTIONS_MAX: usize = 16;
/// Connections of one address to the control API over TCP.
pub const CONTROL_CONNECTIONS_OF_PEER: usize = 4;
/// Seconds that a client of the control API has for a head, for a body, and for reading the answer.
pub const CONTROL_TIMEOUT_S: u64 = 10;
/// Longest answer that the command line reads. 65,535 sessions of 400 bytes of JSON fit.
pub const CONTROL_ANSWER_MAX_BYTES: usize = 32 * 1024 * 1024;

// --- Log ----------------------------------------------------------------------------------------

/// Bytes of `edgeweir run --note`.
pub const NOTE_MAX_BYTES: usize = 256;
/// Lines waiting for a slow stderr; later ones are dropped and counted.
pub const LOG_QUEUE_LINES: usize = 1024;
/// Within so long a line that a peer can cause at will is told once for its cause and peer.
pub const LOG_REPEAT_MS: u64 = 60_000;
/// Lines of one such cause a second, whoever causes them.
pub const LOG_CAUSE_LINES_PER_S: usize = 10;
/// Causes and peers that are told apart, 100 bytes each; later peers share one place for a cause.
pub const LOG_PEERS_MAX: usize = 512;
/// Longest log line; longer ones are cut.
pub const LOG_LINE_MAX_BYTES: usize = 1024;

// --- Plugins: one instance ----------------------------------------------------------------------

/// Linear memory of a guest, its initial size included.
pub const GUEST_MEMORY_MAX_BYTES: usize = 4 * 1024 * 1024;
/// Elements of all tables of a guest together; a table is a function pointer an element.
pub const GUEST_TABLE_ELEMENTS_MAX: usize = 10_000;
/// Core instances within one component: the guest itself and the few that adapt it.
pub const GUEST_INSTANCES_MAX: usize = 16;
/// Tables within one component.
pub const GUEST_TABLES_MAX: usize = 8;
/// Linear memories within one component.
pub const GUEST_MEMORIES_MAX: usize = 2;
/// Stack of a guest's frames; recursion ends here.
pub const GUEST_STACK_BYTES: usize = 256 * 1024;
/// What one call between host and guest may make the host copy.
pub const GUEST_COPY_MAX_BYTES: usize = 1024 * 1024;
/// CPU time of `pick-upstream` and `pick-worker`.
pub const BALANCER_BUDGET_MS: u64 = 2;
/// CPU time of `authenticate` and `on-message`.
pub const HOOK_BUDGET_MS: u64 = 5;
/// CPU time of `describe` and `snapshot`.
pub const LIFECYCLE_BUDGET_MS: u64 = 20;
/// CPU time of `init` and `probe`, and of making an instance.
pub const INIT_BUDGET_MS: u64 = 100;
/// CPU time of the first call of each kind while a plugin is tried. Its code and its memory are cold, on
/// a small board many times slower than ever after; the calls that follow have what the hook has.
pub const WARM_UP_BUDGET_MS: u64 = 100;
/// Period of the clock that budgets are looked at by; only runs while guests are called.
pub const EPOCH_MS: u64 = 1;
/// Ticks without any call after which that clock stops.
pub const EPOCH_IDLE_TICKS: u32 = 50;

// --- Plugins: what a guest says -----------------------------------------------------------------

/// Longest name of a header that a guest gives.
pub const GUEST_HEADER_NAME_MAX_BYTES: usize = 64;
/// Longest value of a header that a guest gives. Peers may send longer ones: URLs with tokens.
pub const GUEST_HEADER_VALUE_MAX_BYTES: usize = 4096;
/// Headers of a reply that a guest gives.
pub const GUEST_REPLY_HEADERS_MAX: usize = 32;
/// WWW-Authenticate headers of one challenge.
pub const GUEST_CHALLENGES_MAX: usize = 8;
/// Edits of one message.
pub const GUEST_EDITS_MAX: usize = 64;
/// Longest user of a grant.
pub const GRANT_USER_MAX_BYTES: usize = 64;
/// Longest time of a grant.
pub const GRANT_TTL_MAX_S: u32 = 86_400;
/// Roles of a grant.
pub const GRANT_ROLES_MAX: usize = 8;
/// Longest role of a grant.
pub const GRANT_ROLE_MAX_BYTES: usize = 32;
/// Entries in each list of a filter's interest.
pub const INTEREST_ENTRIES_MAX: usize = 32;
/// Longest entry there.
pub const INTEREST_ENTRY_MAX_BYTES: usize = 64;
/// Longest name and version that a plugin gives itself.
pub const PLUGIN_INFO_MAX_BYTES: usize = 32;
/// Longest JSON Schema that a plugin shows.
pub const PLUGIN_SCHEMA_MAX_BYTES: usize = 16 * 1024;
/// Longest reason that `init` and `probe` give; the rest is cut.
pub const PLUGIN_REASON_MAX_BYTES: usize = 512;
/// Longest state that a plugin leaves its successor.
pub const SNAPSHOT_MAX_BYTES: usize = 64 * 1024;

// --- Plugins: what a guest asks of the host -----------------------------------------------------

/// Longest log line of a guest; the rest is cut.
pub const GUEST_LOG_LINE_MAX_BYTES: usize = 1024;
/// Log lines of one slot a second; later ones are dropped and counted.
pub const GUEST_LOG_LINES_PER_S: u32 = 20;
/// Random bytes of one call.
pub const GUEST_RANDOM_MAX_BYTES: u32 = 256;
/// Keys in the table of one slot.
pub const KV_KEYS_MAX: usize = 1024;
/// Longest key there.
pub const KV_KEY_MAX_BYTES: usize = 64;
/// Longest value there.
pub const KV_VALUE_MAX_BYTES: usize = 4096;
/// Keys and values of one slot together.
pub const KV_MAX_BYTES: usize = 256 * 1024;
/// Metrics of one slot; later ones are dropped and counted.
pub const GUEST_METRICS_MAX: usize = 32;
/// Longest name of a metric.
pub const GUEST_METRIC_NAME_MAX_BYTES: usize = 64;
/// Longest text that a guest may have authenticated by a key, or have checked as a password.
pub const GUEST_CREDENTIAL_MAX_BYTES: usize = 4096;

// --- Plugins: life cycle ------------------------------------------------------------------------

/// How long a silent client's next SETUP goes by the configuration of the DESCRIBE before it; then the
/// connection takes up a newer one, and plugins that are in that one no more need not wait for it.
pub const DESCRIBED_HOLDS_MS: u64 = 10_000;
/// How long after an install few faults bring back the plugin from before.
pub const TRIAL_MS: u64 = 60_000;
/// So many faults during the trial do.
pub const TRIAL_FAULTS: u32 = 3;
/// So many faults within [`FAULT_WINDOW_MS`] do at any time.
pub const FAULTS_MAX: u32 = 20;
/// The window in which faults are counted together.
pub const FAULT_WINDOW_MS: u64 = 60_000;
/// How long a plugin that has no predecessor is not asked after so many faults.
pub const BENCH_MS: u64 = 30_000;
/// Events that wait to be taken; the oldest go.
pub const PLUGIN_EVENTS_MAX: usize = 64;
/// Address space of the child that compiles: 1 MiB of component takes about 100 MiB.
pub const COMPILE_MEMORY_MAX_BYTES: u64 = 512 * 1024 * 1024;
/// Memory said to be available that the child leaves alone: the text of what runs beside it.
pub const COMPILE_SPARES_BYTES: u64 = 8 * 1024 * 1024;
/// CPU time of the child that compiles; 25 KiB take 25 ms on a PC and about a second on a small board.
pub const COMPILE_CPU_MAX_S: u64 = 60;
/// Wall time of the child that compiles: it runs behind everything else.
pub const COMPILE_WALL_MAX_S: u64 = 180;
/// Largest result of compiling; 1 MiB of component becomes about 6 MiB.
pub const COMPILED_MAX_BYTES: usize = 16 * 1024 * 1024;
/// Slots that flash remembers: those of the configuration, and as many that it once had.
pub const PLUGIN_SLOTS_STORED_MAX: usize = 2 * PLUGIN_SLOTS_MAX;
/// Slots that are known at once; later names find no plugin.
pub const PLUGIN_SLOTS_KNOWN_MAX: usize = 64;
