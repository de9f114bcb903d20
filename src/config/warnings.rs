//! What is allowed and yet will not work: secrets that a configuration needs and that are not stored.
//!
//! No rule, since secrets are set apart from the configuration, before or after it.

use super::{Auth, Config, secrets::Secrets};

/// What an operator should do before players come, one line each with the remedy; nothing when all
/// is there. Without `secrets` (a file is checked, no store is at hand) whatever is needed is named.
pub fn warnings(config: &Config, secrets: Option<&Secrets>) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut named: Vec<&str> = Vec::new();
    for origin in &config.origins {
        let Some(name) = origin.credentials.as_deref() else { continue };
        let stored = secrets.is_some_and(|secrets| secrets.credential(name).is_some());
        if stored || named.contains(&name) {
            continue;
        }
        named.push(name);
        let which = if secrets.is_some() { "are not stored" } else { "must be stored" };
        warnings.push(format!(
            "origin {} names credentials {name}, which {which}: edgeweir config secret {name}",
            origin.name
        ));
    }
    let asks = |auth| matches!(auth, Auth::Digest | Auth::Basic);
    let first = config.routes.iter().find(|route| asks(route.auth));
    if let Some(route) = first
        && secrets.is_none_or(|secrets| secrets.users.is_empty())
    {
        let which = match secrets {
            Some(_) => "no user is stored, so nobody gets in",
            None => "users must be stored",
        };
        warnings.push(format!(
            "route {} asks players for a password and {which}: edgeweir config user NAME",
            route.path
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::text::parse;

    #[test]
    fn what_is_needed_and_not_stored_is_named_with_the_remedy() {
        let text = "[[origin]]\nname = \"a\"\nurl = \"rtsp://h\"\ncredentials = \"nvr\"\n\
                    [[origin]]\nname = \"b\"\nurl = \"rtsp://h\"\ncredentials = \"nvr\"\n\
                    [[route]]\npath = \"/x\"\norigins = [\"a\"]\nauth = \"digest\"\n\
                    [[route]]\npath = \"/y\"\norigins = [\"b\"]\nauth = \"none\"\n";
        let config = parse(text).unwrap();
        let mut secrets = Secrets::default();
        assert_eq!(
            warnings(&config, Some(&secrets)),
            [
                "origin a names credentials nvr, which are not stored: edgeweir config secret nvr",
                "route /x asks players for a password and no user is stored, so nobody gets in: \
                 edgeweir config user NAME"
            ]
        );
        assert_eq!(
            warnings(&config, None),
            [
                "origin a names credentials nvr, which must be stored: edgeweir config secret nvr",
                "route /x asks players for a password and users must be stored: \
                 edgeweir config user NAME"
            ]
        );
        secrets.set_credential("nvr", "u", "p").unwrap();
        secrets.set_user("anna", "p").unwrap();
        assert!(warnings(&config, Some(&secrets)).is_empty());
        assert!(warnings(&Config::default(), None).is_empty());
    }
}
