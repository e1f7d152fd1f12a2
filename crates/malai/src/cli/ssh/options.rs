//! A table of ssh's options and what each means in malai. Parsing, help, manual page and tests use it.

/// What malai does with an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// It does what it does in ssh, or the closest equivalent.
    Obeyed(Setting, &'static str),
    /// It is accepted but has no effect, for this reason.
    Ignored(&'static str),
    /// It is refused; the text says what to do instead.
    Refused(&'static str),
}

/// The setting of an option that has an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `-l`, `User`.
    User,
    /// `-t`; given twice, even without a local terminal.
    Tty,
    /// `-T`.
    NoTty,
    /// `RequestTTY`: yes, no, force or auto.
    RequestTty,
    /// `-s`, `SessionType=subsystem`.
    Subsystem,
    /// `SessionType`: none, subsystem or default.
    SessionType,
    /// `-n`, `StdinNull`.
    StdinNull,
    /// `-f`, `ForkAfterAuthentication`.
    Background,
    /// `-N`.
    NoCommand,
    /// `-e`, `EscapeChar`.
    EscapeChar,
    /// `-q`.
    Quiet,
    /// `-v`.
    Verbose,
    /// `-V`.
    Version,
    /// `-G`.
    PrintConfig,
    /// `-O`.
    Control,
    /// `-o`.
    Option,
    /// `SendEnv`.
    SendEnv,
    /// `SetEnv`.
    SetEnv,
    /// `RemoteCommand`.
    RemoteCommand,
    /// `LogLevel`.
    LogLevel,
    /// `LocalCommand`.
    LocalCommand,
    /// `PermitLocalCommand`.
    PermitLocalCommand,
    /// `-L`, `LocalForward`.
    LocalForward,
    /// `-D`, `DynamicForward`.
    DynamicForward,
    /// `-W`.
    StandardForward,
    /// `ExitOnForwardFailure`.
    ExitOnForwardFailure,
    /// `-g`, `GatewayPorts`.
    GatewayPorts,
    /// `ClearAllForwardings`.
    ClearForwards,
}

/// An option of one letter.
#[derive(Clone, Copy, Debug)]
pub struct Letter {
    /// The letter.
    pub letter: char,
    /// Whether a value follows.
    pub takes_value: bool,
    /// What it means in malai.
    pub meaning: Meaning,
}

/// A keyword of `-o`.
#[derive(Clone, Copy, Debug)]
pub struct Keyword {
    /// Its name, as ssh_config(5) writes it; case does not matter.
    pub name: &'static str,
    /// What it means in malai.
    pub meaning: Meaning,
}

use Meaning::{Ignored, Obeyed, Refused};

const KEYS: &str = "machines are known by their public keys";
const CRYPTO: &str = "QUIC and TLS 1.3 choose the cryptography";
const PATHS: &str = "malai finds the machine by its key";
const MASTER: &str = "connections are always shared";
const AUTH: &str = "the configuration decides who may do what";
const FILES: &str = "malai reads no ssh_config";
const ALIVE: &str = "connections in use are watched";
const AGENT: &str = "no agent is forwarded, and none is needed to reach a machine";
const REVERSE: &str = "nothing is forwarded from the machine to this computer yet";

const fn flag(letter: char, meaning: Meaning) -> Letter {
    Letter {
        letter,
        takes_value: false,
        meaning,
    }
}

const fn value(letter: char, meaning: Meaning) -> Letter {
    Letter {
        letter,
        takes_value: true,
        meaning,
    }
}

const fn key(name: &'static str, meaning: Meaning) -> Keyword {
    Keyword { name, meaning }
}

/// Every letter that ssh accepts.
pub const LETTERS: &[Letter] = &[
    flag('4', Ignored(PATHS)),
    flag('6', Ignored(PATHS)),
    flag('2', Ignored("there is no other version of the protocol")),
    flag('A', Ignored(AGENT)),
    flag('a', Ignored(AGENT)),
    flag('C', Ignored("nothing is compressed")),
    flag(
        'f',
        Obeyed(
            Setting::Background,
            "go to the background once the command has started; implies -n",
        ),
    ),
    flag(
        'G',
        Obeyed(
            Setting::PrintConfig,
            "print the configuration of the host and exit",
        ),
    ),
    flag(
        'g',
        Obeyed(
            Setting::GatewayPorts,
            "-L and -D without an address listen for other computers too",
        ),
    ),
    flag(
        'K',
        Refused("there is no GSSAPI here: machines are known by their public keys"),
    ),
    flag('k', Ignored("there is no GSSAPI here")),
    flag('M', Ignored(MASTER)),
    flag(
        'N',
        Obeyed(
            Setting::NoCommand,
            "no command: only keep the connection and what is forwarded",
        ),
    ),
    flag(
        'n',
        Obeyed(Setting::StdinNull, "standard input is /dev/null"),
    ),
    flag('q', Obeyed(Setting::Quiet, "no messages of malai's")),
    flag(
        's',
        Obeyed(Setting::Subsystem, "the command is the name of a subsystem"),
    ),
    flag('T', Obeyed(Setting::NoTty, "no terminal")),
    flag(
        't',
        Obeyed(Setting::Tty, "a terminal; twice: even without one here"),
    ),
    flag('V', Obeyed(Setting::Version, "print the version")),
    flag(
        'v',
        Obeyed(
            Setting::Verbose,
            "say more, and which options had no meaning",
        ),
    ),
    flag(
        'X',
        Refused(
            "X11 is not forwarded: run the program where its screen is, or use a remote desktop as a service",
        ),
    ),
    flag('x', Ignored("X11 is not forwarded anyway")),
    flag(
        'Y',
        Refused(
            "X11 is not forwarded: run the program where its screen is, or use a remote desktop as a service",
        ),
    ),
    flag('y', Ignored("the log goes where malai's goes")),
    value('B', Ignored(PATHS)),
    value('b', Ignored(PATHS)),
    value('c', Ignored(CRYPTO)),
    value(
        'D',
        Obeyed(
            Setting::DynamicForward,
            "a SOCKS proxy (4, 4a, 5) on [bind:]port, through the machine",
        ),
    ),
    value('E', Ignored("malai's own messages go to standard error")),
    value(
        'e',
        Obeyed(
            Setting::EscapeChar,
            "what starts an escape on a terminal: a character, ^ and a letter, or none",
        ),
    ),
    value('F', Ignored(FILES)),
    value('I', Ignored(KEYS)),
    value('i', Ignored(KEYS)),
    value('J', Ignored(PATHS)),
    value(
        'L',
        Obeyed(
            Setting::LocalForward,
            "[bind:]port:host:hostport; connections to the port here go to what the machine reaches; either side may be the path of a socket",
        ),
    ),
    value('l', Obeyed(Setting::User, "the user to run as")),
    value('m', Ignored(CRYPTO)),
    value(
        'O',
        Obeyed(
            Setting::Control,
            "check, exit or stop the shared connection",
        ),
    ),
    value('o', Obeyed(Setting::Option, "an option as in ssh_config")),
    value('P', Ignored(FILES)),
    value('p', Ignored(PATHS)),
    value(
        'Q',
        Refused("there are no algorithms to list: QUIC and TLS 1.3 choose the cryptography"),
    ),
    value('R', Refused(REVERSE)),
    value('S', Ignored(MASTER)),
    value(
        'W',
        Obeyed(
            Setting::StandardForward,
            "connect standard input and output to host:port, as the machine reaches it",
        ),
    ),
    value(
        'w',
        Refused("there are no tunnel devices here: a service forwards what listens on the machine"),
    ),
];

/// Every keyword in ssh_config(5).
pub const KEYWORDS: &[Keyword] = &[
    key("AddKeysToAgent", Ignored(AGENT)),
    key("AddressFamily", Ignored(PATHS)),
    key("BatchMode", Ignored("malai asks nothing")),
    key("BindAddress", Ignored(PATHS)),
    key("BindInterface", Ignored(PATHS)),
    key("CanonicalDomains", Ignored(PATHS)),
    key("CanonicalizeFallbackLocal", Ignored(PATHS)),
    key("CanonicalizeHostname", Ignored(PATHS)),
    key("CanonicalizeMaxDots", Ignored(PATHS)),
    key("CanonicalizePermittedCNAMEs", Ignored(PATHS)),
    key("CASignatureAlgorithms", Ignored(CRYPTO)),
    key("CertificateFile", Ignored(KEYS)),
    key("ChallengeResponseAuthentication", Ignored(AUTH)),
    key("ChannelTimeout", Ignored(ALIVE)),
    key("CheckHostIP", Ignored(KEYS)),
    key("Cipher", Ignored(CRYPTO)),
    key("Ciphers", Ignored(CRYPTO)),
    key(
        "ClearAllForwardings",
        Obeyed(Setting::ClearForwards, "yes: nothing is forwarded"),
    ),
    key("Compression", Ignored("nothing is compressed")),
    key("CompressionLevel", Ignored("nothing is compressed")),
    key("ConnectionAttempts", Ignored(PATHS)),
    key(
        "ConnectTimeout",
        Ignored("a machine that is not reached is given up after 10 seconds"),
    ),
    key("ControlMaster", Ignored(MASTER)),
    key("ControlPath", Ignored(MASTER)),
    key("ControlPersist", Ignored(MASTER)),
    key("DynamicForward", Obeyed(Setting::DynamicForward, "as -D")),
    key(
        "EnableEscapeCommandline",
        Ignored("there is no command line in an escape"),
    ),
    key("EnableSSHKeysign", Ignored(KEYS)),
    key("EscapeChar", Obeyed(Setting::EscapeChar, "as -e")),
    key(
        "ExitOnForwardFailure",
        Obeyed(
            Setting::ExitOnForwardFailure,
            "yes: do nothing if a forwarding cannot be set up",
        ),
    ),
    key("FingerprintHash", Ignored(KEYS)),
    key(
        "ForkAfterAuthentication",
        Obeyed(Setting::Background, "as -f"),
    ),
    key("ForwardAgent", Ignored(AGENT)),
    key(
        "ForwardX11",
        Refused(
            "X11 is not forwarded: run the program where its screen is, or use a remote desktop as a service",
        ),
    ),
    key("ForwardX11Timeout", Ignored("X11 is not forwarded")),
    key(
        "ForwardX11Trusted",
        Refused(
            "X11 is not forwarded: run the program where its screen is, or use a remote desktop as a service",
        ),
    ),
    key("GatewayPorts", Obeyed(Setting::GatewayPorts, "yes: as -g")),
    key("GlobalKnownHostsFile", Ignored(KEYS)),
    key("GSSAPIAuthentication", Ignored(AUTH)),
    key("GSSAPIClientIdentity", Ignored(AUTH)),
    key(
        "GSSAPIDelegateCredentials",
        Refused("there is no GSSAPI here: machines are known by their public keys"),
    ),
    key("GSSAPIKexAlgorithms", Ignored(AUTH)),
    key("GSSAPIKeyExchange", Ignored(AUTH)),
    key("GSSAPIRenewalForcesRekey", Ignored(AUTH)),
    key("GSSAPIServerIdentity", Ignored(AUTH)),
    key("GSSAPITrustDns", Ignored(AUTH)),
    key("HashKnownHosts", Ignored(KEYS)),
    key("HostbasedAcceptedAlgorithms", Ignored(AUTH)),
    key("HostbasedAuthentication", Ignored(AUTH)),
    key("HostKeyAlgorithms", Ignored(KEYS)),
    key("HostKeyAlias", Ignored(KEYS)),
    key("Hostname", Ignored("the target names the machine")),
    key("IdentitiesOnly", Ignored(KEYS)),
    key("IdentityAgent", Ignored(KEYS)),
    key("IdentityFile", Ignored(KEYS)),
    key("IgnoreUnknown", Ignored(FILES)),
    key("Include", Ignored(FILES)),
    key("IPQoS", Ignored(PATHS)),
    key("KbdInteractiveAuthentication", Ignored(AUTH)),
    key("KbdInteractiveDevices", Ignored(AUTH)),
    key("KexAlgorithms", Ignored(CRYPTO)),
    key("KnownHostsCommand", Ignored(KEYS)),
    key(
        "LocalCommand",
        Obeyed(
            Setting::LocalCommand,
            "run by the shell of this side once the session has started, with PermitLocalCommand",
        ),
    ),
    key("LocalForward", Obeyed(Setting::LocalForward, "as -L")),
    key(
        "LogLevel",
        Obeyed(Setting::LogLevel, "QUIET as -q, VERBOSE and DEBUG as -v"),
    ),
    key("LogVerbose", Ignored("RUST_LOG says what is logged")),
    key("MACs", Ignored(CRYPTO)),
    key("NoHostAuthenticationForLocalhost", Ignored(KEYS)),
    key("NumberOfPasswordPrompts", Ignored(AUTH)),
    key("ObscureKeystrokeTiming", Ignored(CRYPTO)),
    key("PasswordAuthentication", Ignored(AUTH)),
    key(
        "PermitLocalCommand",
        Obeyed(
            Setting::PermitLocalCommand,
            "whether LocalCommand is run: yes or no",
        ),
    ),
    key("PermitRemoteOpen", Ignored("nothing is forwarded to here")),
    key("PKCS11Provider", Ignored(KEYS)),
    key("Port", Ignored(PATHS)),
    key("PreferredAuthentications", Ignored(AUTH)),
    key(
        "Protocol",
        Ignored("there is no other version of the protocol"),
    ),
    key("ProxyCommand", Ignored(PATHS)),
    key("ProxyJump", Ignored(PATHS)),
    key("ProxyUseFdpass", Ignored(PATHS)),
    key("PubkeyAcceptedAlgorithms", Ignored(CRYPTO)),
    key("PubkeyAcceptedKeyTypes", Ignored(CRYPTO)),
    key("PubkeyAuthentication", Ignored(AUTH)),
    key("RekeyLimit", Ignored(CRYPTO)),
    key(
        "RemoteCommand",
        Obeyed(
            Setting::RemoteCommand,
            "the command, where no words follow the host",
        ),
    ),
    key("RemoteForward", Refused(REVERSE)),
    key(
        "RequestTTY",
        Obeyed(Setting::RequestTty, "yes, no, force or auto"),
    ),
    key("RequiredRSASize", Ignored(CRYPTO)),
    key("RevokedHostKeys", Ignored(KEYS)),
    key("RSAAuthentication", Ignored(AUTH)),
    key("SecurityKeyProvider", Ignored(KEYS)),
    key(
        "SendEnv",
        Obeyed(
            Setting::SendEnv,
            "variables to send, if the machine accepts them",
        ),
    ),
    key("ServerAliveCountMax", Ignored(ALIVE)),
    key("ServerAliveInterval", Ignored(ALIVE)),
    key(
        "SessionType",
        Obeyed(Setting::SessionType, "none, subsystem or default"),
    ),
    key(
        "SetEnv",
        Obeyed(
            Setting::SetEnv,
            "variables to set, if the machine accepts them",
        ),
    ),
    key("StdinNull", Obeyed(Setting::StdinNull, "as -n")),
    key(
        "StreamLocalBindMask",
        Ignored("sockets are for this user alone"),
    ),
    key(
        "StreamLocalBindUnlink",
        Ignored("a socket that nobody listens on is replaced, a live one is not"),
    ),
    key("StrictHostKeyChecking", Ignored(KEYS)),
    key("SyslogFacility", Ignored("the log goes where malai's goes")),
    key("Tag", Ignored(FILES)),
    key("TCPKeepAlive", Ignored(ALIVE)),
    key(
        "Tunnel",
        Refused("there are no tunnel devices here: a service forwards what listens on the machine"),
    ),
    key(
        "TunnelDevice",
        Refused("there are no tunnel devices here: a service forwards what listens on the machine"),
    ),
    key("UpdateHostKeys", Ignored(KEYS)),
    key("UseKeychain", Ignored(AGENT)),
    key("UsePrivilegedPort", Ignored(PATHS)),
    key("User", Obeyed(Setting::User, "the user to run as")),
    key("UserKnownHostsFile", Ignored(KEYS)),
    key("VerifyHostKeyDNS", Ignored(KEYS)),
    key("VersionAddendum", Ignored(CRYPTO)),
    key("VisualHostKey", Ignored(KEYS)),
    key("XAuthLocation", Ignored("X11 is not forwarded")),
];

/// Whether this value disables a keyword that is otherwise refused.
pub fn asks_for_nothing(value: &str) -> bool {
    ["no", "false", "none", "any"]
        .iter()
        .any(|none| value.eq_ignore_ascii_case(none))
}
