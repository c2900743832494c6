//! Which policies can speak of a call at all.
//!
//! A policy that is limited to a scope or to actions cannot permit or forbid anything else, so it need not be put
//! to Cedar. The index leaves out only those: what it finds is a superset of the policies that are satisfied, and
//! Cedar alone says which of them are (a property test compares every decision with an oracle that uses neither).
//! All policies of one index have the same effect, so asking slice by slice gives the same ids as asking once
//! with everything.
//!
//! A slice's Cedar policy set is linked when it is first asked and kept; an organization with ten thousand Claws
//! pays memory for the policies in use. What is in no use is two numbers per grant and scope, and the scope's text.

use std::{
    collections::{BTreeSet, HashMap},
    sync::OnceLock,
};

use cedar_policy::{Authorizer, EntityUid, PolicyId, PolicySet, SlotId, Template};
use clawstaff_types::{ActionId, ActionPattern, ClawName, ResourcePattern};

use crate::words::{Asked, Words};

/// One link of a template: a grant or guardrail on one of its resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    /// Where the template is in the policy's list.
    pub(crate) template: u32,
    /// Where the grant or guardrail is in its list; also the link's id in Cedar.
    pub(crate) place: u32,
}

/// The policies of one scope and one action's name, or one pattern of names.
#[derive(Debug)]
pub(crate) struct Slice {
    scope: Box<str>,
    action: Actions,
    links: Box<[Link]>,
    linked: OnceLock<Option<Box<PolicySet>>>,
}

/// The actions that a slice's policies can speak of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Actions {
    /// The ones of this name, of any connector.
    Named(Box<str>),
    /// The ones that match.
    Like(Box<ActionPattern>),
}

/// An index of policies with the same effect, sorted by scope and action.
#[derive(Debug, Default)]
pub(crate) struct Slices(Box<[Slice]>);

/// What Cedar said to a call.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Places of the grants or guardrails that are satisfied, each once.
    pub(crate) places: BTreeSet<u32>,
    /// Whether a policy could not be evaluated: a permit is then not given, a forbid is taken as given.
    pub(crate) failed: bool,
}

/// Collects links before they are sorted into [`Slices`].
#[derive(Debug, Default)]
pub(crate) struct Builder(HashMap<(Box<str>, Actions), Vec<Link>>);

impl Builder {
    /// Files one grant or guardrail under all of its scopes and actions.
    pub(crate) fn add(&mut self, link: Link, actions: &[ActionPattern], resources: &[ResourcePattern]) {
        for resource in resources {
            let scope: Box<str> = resource.to_string().into();
            for action in actions {
                let action = if action.is_exact() {
                    Actions::Named(action.name().into())
                } else {
                    Actions::Like(Box::new(action.clone()))
                };
                let links = self.0.entry((scope.clone(), action)).or_default();
                if !links.contains(&link) {
                    links.push(link);
                }
            }
        }
    }

    pub(crate) fn build(self) -> Slices {
        let slice = |((scope, action), links): ((Box<str>, Actions), Vec<Link>)| Slice {
            scope,
            action,
            links: links.into(),
            linked: OnceLock::new(),
        };
        let mut slices: Vec<Slice> = self.0.into_iter().map(slice).collect();
        slices.sort_by(|a, b| (&a.scope, &a.action).cmp(&(&b.scope, &b.action)));
        Slices(slices.into())
    }
}

impl Slices {
    /// Whether any of the slices can speak of an action, on whatever resource.
    pub(crate) fn speak_of_action(&self, action: &ActionId) -> bool {
        self.0.iter().any(|slice| slice.action.can_be(action))
    }

    /// The slices whose policies can speak of a call.
    pub(crate) fn that_speak_of<'a>(
        &'a self,
        scopes: &'a [String],
        action: &'a ActionId,
    ) -> impl Iterator<Item = &'a Slice> {
        let all = scopes.iter().flat_map(move |scope| self.of_scope(scope));
        all.filter(move |slice| slice.action.can_be(action))
    }

    fn of_scope(&self, scope: &str) -> &[Slice] {
        let start = self.0.partition_point(|slice| slice.scope.as_ref() < scope);
        let from = self.0.get(start..).unwrap_or_default();
        let count = from.partition_point(|slice| slice.scope.as_ref() == scope);
        from.get(..count).unwrap_or_default()
    }
}

impl Actions {
    fn can_be(&self, action: &ActionId) -> bool {
        match self {
            Self::Named(name) => name.as_ref() == action.name(),
            Self::Like(pattern) => pattern.matches(action),
        }
    }
}

impl Slice {
    /// Puts the slice's policies to Cedar. `claw` is the Claw whose index this is; guardrails have none.
    pub(crate) fn ask(
        &self,
        words: &Words,
        templates: &[Template],
        claw: Option<&ClawName>,
        asked: &Asked,
        findings: &mut Findings,
    ) {
        let linked = self
            .linked
            .get_or_init(|| self.link(words, templates, claw).map(Box::new));
        let Some(policies) = linked else {
            findings.failed = true;
            return;
        };
        let response = Authorizer::new().is_authorized(&asked.request, policies, &asked.entities);
        let diagnostics = response.diagnostics();
        findings.failed |= diagnostics.errors().next().is_some();
        for id in diagnostics.reason() {
            match AsRef::<str>::as_ref(id).parse() {
                Ok(place) => {
                    findings.places.insert(place);
                }
                Err(_) => findings.failed = true,
            }
        }
    }

    /// `None` if Cedar refuses a link, which `compile` has made impossible by trying one of each template.
    fn link(&self, words: &Words, templates: &[Template], claw: Option<&ClawName>) -> Option<PolicySet> {
        let mut set = PolicySet::new();
        let resource = words.resource(&self.scope);
        let claw = claw.map(|claw| words.claw(claw.as_str()));
        for link in &self.links {
            let template = templates.get(usize::try_from(link.template).ok()?)?;
            link_one(&mut set, template, link.place, claw.as_ref(), &resource)?;
        }
        Some(set)
    }
}

/// Adds one link, and its template if it is not there yet.
pub(crate) fn link_one(
    set: &mut PolicySet,
    template: &Template,
    place: u32,
    claw: Option<&EntityUid>,
    resource: &EntityUid,
) -> Option<()> {
    if set.template(template.id()).is_none() {
        set.add_template(template.clone()).ok()?;
    }
    let principal = claw.map(|claw| (SlotId::principal(), claw.clone()));
    let resource = (SlotId::resource(), resource.clone());
    let values: HashMap<_, _> = principal.into_iter().chain([resource]).collect();
    set.link(template.id().clone(), PolicyId::new(place.to_string()), values)
        .ok()
}
