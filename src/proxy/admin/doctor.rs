//! What operators ask about origins and about the gateway itself.
//!
//! Not in here: what is found, and what it means (`probe::survey`, `proxy::doctor`).

use core::sync::atomic::AtomicUsize;
use std::sync::Arc;

use super::Inner;
use crate::{
    auth::Credentials,
    clock,
    control::model::{Ask, Finding, Problem, Survey},
    limits::PROBES_AT_ONCE_MAX,
    probe::survey::{self, Target},
    proxy::doctor::{self, Looking},
};

impl Inner {
    /// Looks at what is asked for, on a thread of its own: it may take a minute.
    pub(super) async fn probe(self: Arc<Self>, ask: Ask) -> Result<Survey, Problem> {
        static LOOKING: AtomicUsize = AtomicUsize::new(0);
        let Some(_looking) = Looking::begin(&LOOKING) else {
            let detail = format!("{PROBES_AT_ONCE_MAX} looks are under way: try again in a minute");
            return Err(Problem::new(503, detail));
        };
        let target = self.target(ask)?;
        Ok(smol::unblock(move || smol::block_on(survey::survey(&target))).await)
    }

    fn target(&self, ask: Ask) -> Result<Target, Problem> {
        let generation = self.shared.generation();
        let patience_s = generation.config.limits.answer_timeout_s;
        let unix_s = doctor::believable_unix_s();
        let media = generation.config.gateway.media_ports;
        let ports = Some((media.first, media.last));
        if let Some(url) = ask.url {
            let credentials = ask
                .user
                .map(|user| Credentials::new(&user, ask.password.as_deref().unwrap_or_default()));
            let about = "camera".to_owned();
            return Ok(Target {
                url,
                credentials,
                about,
                plays: true,
                patience_s,
                unix_s,
                ports,
                players_sign: false,
            });
        }
        let name = ask.origin.unwrap_or_default();
        let origin = generation.table.named(&name).ok_or_else(|| self.unknown(&name))?;
        let path = ask.path.or_else(|| doctor::usual_path(&generation.config, origin));
        let own = String::from_utf8_lossy(origin.path()).into_owned();
        Ok(Target {
            url: format!(
                "{}{}",
                String::from_utf8_lossy(origin.authority()),
                path.as_ref().unwrap_or(&own)
            ),
            credentials: origin.credentials().and_then(|name| generation.credentials(name)),
            about: doctor::about(&name),
            plays: path.is_some(),
            patience_s,
            unix_s,
            ports,
            players_sign: doctor::players_sign(&generation.config, &name),
        })
    }

    fn unknown(&self, name: &str) -> Problem {
        let generation = self.shared.generation();
        let origins = generation.table.origins();
        let names: Vec<&str> = origins.iter().map(|origin| origin.name()).collect();
        let nearest = crate::nearest::nearest(name, names.iter().copied());
        Problem::new(
            404,
            match (nearest, names.as_slice()) {
                (Some(near), _) => format!("there is no origin {name}, perhaps {near} was meant"),
                (None, []) => format!("there is no origin {name}, nor any other"),
                (None, names) => format!("there is no origin {name}, only {}", names.join(", ")),
            },
        )
    }

    /// What is wrong with the gateway and its machine.
    pub(super) async fn doctor(self: Arc<Self>) -> Result<Vec<Finding>, Problem> {
        let slots = self.plugins();
        let (shared, data) = (Arc::clone(&self.shared), self.data.clone());
        let facts = smol::unblock(move || doctor::facts(&shared, data.as_deref(), &slots)).await;
        let facts = facts.look_at(&*self.source.lock().await).await;
        Ok(facts.judged())
    }

    /// Ends the wait of an origin.
    pub(super) fn retry_origin(&self, name: &str) -> Result<String, Problem> {
        let generation = self.shared.generation();
        let origin = generation.table.named(name).ok_or_else(|| self.unknown(name))?;
        let before = origin.status(clock::now()).health;
        origin.retry();
        Ok(match before.as_str() {
            "down" => format!("origin {name} is tried at once"),
            _ => format!("origin {name} did not wait: it was {before}"),
        })
    }
}
