//! Which header, on which requests.

use edgeweir_kit::Config;

/// The configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `name` of the header.
    pub name: String,
    /// Its `value`.
    pub value: String,
    /// `methods` that get it.
    pub methods: Vec<String>,
}

impl Settings {
    /// Reads the plugin's configuration.
    ///
    /// # Errors
    /// The key, what is wrong with it and what is allowed. The text is what the operator sees.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let mut config = Config::parse(text)?;
        let name = config.string("name", 64)?.unwrap_or_else(|| "X-Gateway".to_owned());
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(format!("name = \"{name}\": letters, digits and - are allowed"));
        }
        let value = config.string("value", 256)?.unwrap_or_else(|| "edgeweir".to_owned());
        if value.bytes().any(|byte| byte.is_ascii_control()) {
            return Err("value: no control characters are allowed".to_owned());
        }
        let mut methods = config.strings("methods", 16, 32)?;
        if methods.is_empty() {
            methods = vec!["DESCRIBE".to_owned()];
        }
        config.finish()?;
        Ok(Self { name, value, methods })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_configuration_has_defaults() {
        let settings = Settings::parse(b"{}").unwrap();
        assert_eq!(settings.name, "X-Gateway");
        assert_eq!(settings.value, "edgeweir");
        assert_eq!(settings.methods, ["DESCRIBE"]);
    }

    #[test]
    fn keys_are_read() {
        let text = br#"{"name":"X-Site","value":"north gate","methods":["SETUP","PLAY"]}"#;
        let settings = Settings::parse(text).unwrap();
        assert_eq!(settings.name, "X-Site");
        assert_eq!(settings.value, "north gate");
        assert_eq!(settings.methods, ["SETUP", "PLAY"]);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, error) in [
            (r#"{"name":"X Site"}"#, "name = \"X Site\": letters, digits and - are allowed"),
            (r#"{"value":"a\nb"}"#, "value: no control characters are allowed"),
            (r#"{"naem":"X"}"#, "unknown key \"naem\": known are name, value, methods"),
        ] {
            assert_eq!(Settings::parse(text.as_bytes()), Err(error.to_owned()));
        }
    }
}
