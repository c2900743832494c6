//! Which policies can speak of a call at all.
//!
//! A policy that is limited to a scope or to an action by its name cannot permit or forbid anything else, so it
//! need not be put to Cedar. The index leaves out only those: what it finds is a superset of the policies that
//! are satisfied, and Cedar alone says which of them are. All policies of one index have the same effect, so
//! asking slice by slice gives the same ids as asking once with everything.
//!
//! A slice's Cedar policy set is linked when it is first asked and kept; an organization with ten thousand Claws
//! pays memory for the policies in use.

use std::{
    collections::{BTreeSet, HashMap},
    sync::OnceLock,
};

use cedar_policy::{Authorizer, EntityUid, PolicyId, PolicySet, SlotId, Template};
use clawstaff_types::{ActionPattern, ResourcePattern};

use crate::words::{Asked, Words};

/// One link of a template: a grant or guardrail on one of its resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    /// Where the template is in the policy's list.
    pub(crate) template: usize,
    /// The Claw that fills `?principal`; guardrails have no such slot.
    pub(crate) claw: Option<Box<str>>,
    /// The id of the grant or the name of the guardrail.
    pub(crate) id: Box<str>,
}

/// The policies of one scope and one action's name (or of all patterns with a `*`).
#[derive(Debug)]
struct Slice {
    scope: Box<str>,
    action: Option<Box<str>>,
    links: Vec<Link>,
    linked: OnceLock<Option<Box<PolicySet>>>,
}

/// An index of policies with the same effect, sorted by scope and action.
#[derive(Debug, Default)]
pub(crate) struct Slices(Vec<Slice>);

/// What Cedar said to a call.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Grants or guardrails that are satisfied, each once, in order.
    pub(crate) ids: BTreeSet<String>,
    /// Whether a policy could not be evaluated: a permit is then not given, a forbid is taken as given.
    pub(crate) failed: bool,
}

/// Collects links before they are sorted into [`Slices`].
#[derive(Debug, Default)]
pub(crate) struct Builder(HashMap<(String, Option<String>), Vec<Link>>);

impl Builder {
    /// Files one grant or guardrail under all of its scopes and actions.
    pub(crate) fn add(&mut self, link: &Link, actions: &[ActionPattern], resources: &[ResourcePattern]) {
        for resource in resources {
            let scope = resource.to_string();
            for action in actions {
                let name = action.is_exact().then(|| action.name().to_owned());
                let links = self.0.entry((scope.clone(), name)).or_default();
                if !links.contains(link) {
                    links.push(link.clone());
                }
            }
        }
    }

    pub(crate) fn build(self) -> Slices {
        let slice = |((scope, action), links): ((String, Option<String>), Vec<Link>)| Slice {
            scope: scope.into(),
            action: action.map(Into::into),
            links,
            linked: OnceLock::new(),
        };
        let mut slices: Vec<Slice> = self.0.into_iter().map(slice).collect();
        slices.sort_by(|a, b| (&a.scope, &a.action).cmp(&(&b.scope, &b.action)));
        Slices(slices)
    }
}

impl Slices {
    /// Puts every policy that can speak of the call to Cedar.
    pub(crate) fn ask(
        &self,
        words: &Words,
        templates: &[Template],
        asked: &Asked,
        scopes: &[String],
        action: &str,
    ) -> Findings {
        let mut findings = Findings::default();
        if self.0.is_empty() {
            return findings;
        }
        for scope in scopes {
            for name in [Some(action), None] {
                if let Some(slice) = self.find(scope, name) {
                    slice.ask(words, templates, asked, &mut findings);
                }
            }
        }
        findings
    }

    fn find(&self, scope: &str, action: Option<&str>) -> Option<&Slice> {
        let wanted = (scope, action);
        let found = self
            .0
            .binary_search_by(|slice| (slice.scope.as_ref(), slice.action.as_deref()).cmp(&wanted));
        found.ok().and_then(|at| self.0.get(at))
    }
}

impl Slice {
    fn ask(&self, words: &Words, templates: &[Template], asked: &Asked, findings: &mut Findings) {
        let linked = self
            .linked
            .get_or_init(|| self.link(words, templates).map(Box::new));
        let Some(policies) = linked else {
            findings.failed = true;
            return;
        };
        let response = Authorizer::new().is_authorized(&asked.request, policies, &asked.entities);
        let diagnostics = response.diagnostics();
        findings.failed |= diagnostics.errors().next().is_some();
        findings
            .ids
            .extend(diagnostics.reason().map(|id| AsRef::<str>::as_ref(id).to_owned()));
    }

    /// `None` if Cedar refuses a link, which `compile` has made impossible by trying one of each template.
    fn link(&self, words: &Words, templates: &[Template]) -> Option<PolicySet> {
        let mut set = PolicySet::new();
        let resource = words.resource(&self.scope);
        for link in &self.links {
            link_one(&mut set, words, templates.get(link.template)?, link, &resource)?;
        }
        Some(set)
    }
}

/// Adds one link, and its template if it is not there yet.
pub(crate) fn link_one(
    set: &mut PolicySet,
    words: &Words,
    template: &Template,
    link: &Link,
    resource: &EntityUid,
) -> Option<()> {
    if set.template(template.id()).is_none() {
        set.add_template(template.clone()).ok()?;
    }
    let principal = link
        .claw
        .as_deref()
        .map(|claw| (SlotId::principal(), words.claw(claw)));
    let resource = (SlotId::resource(), resource.clone());
    let values: HashMap<_, _> = principal.into_iter().chain([resource]).collect();
    let id = PolicyId::new(&link.id);
    set.link(template.id().clone(), id, values).ok()
}
