//! The configuration that the `@` lines of a transcript ask for.
//!
//! `@origin [dead] URL` is an origin: `o0`, `o1`, … in order. `@route PATH` is a route to all of them;
//! keys may follow, as in `@route /private/** auth = "digest"; origins = ["o0"]`. `@set` adds a key to
//! the last route, `@plugin SLOT ON_FAULT` a slot. With `@credentials` the gateway signs for all origins.

/// As text.
pub fn text(header: &str) -> String {
    let all = |name: &str| options(header, name);
    let mut urls = all("origin");
    if urls.is_empty() {
        urls.push("rtsp://198.51.100.20:554");
    }
    let signs = !all("credentials").is_empty();
    let (mut toml, mut names) = (String::new(), Vec::new());
    for (at, url) in urls.iter().enumerate() {
        let url = url.trim_start_matches("dead ");
        toml += &format!("[[origin]]\nname = \"o{at}\"\nurl = \"{url}\"\n");
        toml += if signs { "credentials = \"c\"\n" } else { "" };
        names.push(format!("o{at}"));
    }
    let mut routes = all("route");
    if routes.is_empty() {
        routes.push("/**");
    }
    for route in routes {
        let (path, keys) = route.split_once(' ').unwrap_or((route, ""));
        toml += &format!("[[route]]\npath = \"{path}\"\n");
        if !keys.contains("origins") {
            toml += &format!("origins = {names:?}\n");
        }
        for key in keys.split(';') {
            toml += &format!("{}\n", key.trim());
        }
    }
    toml += &all("set").join("\n");
    for (slot, on_fault) in all("plugin").iter().filter_map(|it| it.split_once(' ')) {
        toml += &format!("\n[[plugin]]\nslot = \"{slot}\"\non_fault = \"{on_fault}\"\n");
    }
    toml
}

/// Values of the `@` lines of that name.
pub fn options<'a>(header: &'a str, name: &str) -> Vec<&'a str> {
    let lines = header.lines().filter_map(|line| line.strip_prefix('@')?.split_once(' '));
    lines.filter(|(key, _)| *key == name).map(|(_, value)| value).collect()
}
