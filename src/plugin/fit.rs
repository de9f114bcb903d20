//! Which function of an export has another type than the interface: for people who must mend it.
//!
//! Not in here: whether it fits at all, which the generated bindings find out.

use wasmtime::{
    Store,
    component::{ComponentNamedList, Instance, Lift, Lower, Resource},
};

use super::{
    bindings::{authenticator, balancer, filter, lifecycle, types},
    calls::State,
    guest::shown_error,
    message::Lent,
};

type Message = Resource<Lent>;

/// The first function of the interface that has another type: its name, what the interface says
/// and what was found.
pub(super) fn misfit(
    store: &mut Store<State>,
    instance: &Instance,
    interface: &str,
) -> Option<String> {
    let mut look = Look { store, instance, interface };
    match interface {
        "lifecycle" => None
            .or_else(|| look.at::<(), (lifecycle::Info,)>("describe"))
            .or_else(|| {
                type Config<'a> = (&'a [u8], Option<lifecycle::Handover<'a>>);
                look.at::<Config<'_>, (Result<(), lifecycle::InitError>,)>("init")
            })
            .or_else(|| look.at::<(), (Vec<u8>,)>("snapshot"))
            .or_else(|| look.at::<(), (Result<(), String>,)>("probe")),
        "balancer" => None
            .or_else(|| {
                type Origins<'a> = (balancer::SessionKey, &'a str, &'a [balancer::Upstream]);
                look.at::<Origins<'_>, (Option<u32>,)>("pick-upstream")
            })
            .or_else(|| {
                type Workers<'a> = (balancer::PipeKey, &'a [balancer::Worker]);
                look.at::<Workers<'_>, (Option<u16>,)>("pick-worker")
            }),
        "authenticator" => {
            look.at::<(types::Client<'_>, Message), (authenticator::Decision,)>("authenticate")
        }
        _ => None.or_else(|| look.at::<(), (filter::Interest,)>("interests")).or_else(|| {
            type Asked<'a> = (types::Client<'a>, types::Direction, Message);
            look.at::<Asked<'_>, (filter::Verdict,)>("on-message")
        }),
    }
}

struct Look<'a> {
    store: &'a mut Store<State>,
    instance: &'a Instance,
    interface: &'a str,
}

impl Look<'_> {
    /// The name and the types, if what stands there has another one.
    fn at<P, R>(&mut self, name: &'static str) -> Option<String>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift,
    {
        let export = format!("edgeweir:plugin/{}@1.0.0", self.interface);
        let outer = self.instance.get_export_index(&mut *self.store, None, &export);
        let inner = outer
            .and_then(|outer| self.instance.get_export_index(&mut *self.store, Some(&outer), name));
        let function = inner.and_then(|at| self.instance.get_func(&mut *self.store, at));
        match function?.typed::<P, R>(&*self.store) {
            Ok(_) => None,
            Err(error) => Some(format!("{name}: {}", shown_error(&error))),
        }
    }
}
