//! GraphQL at GitHub: a query is the action that its fields are of, and nothing else is let through.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use clawstaff_connectors::{Catalogue, Mapped, RequestView, Unmapped};
use http::Method;
use serde_json::{Value, json};

fn ask(body: &Value) -> Result<Mapped, Unmapped> {
    let catalogue = Catalogue::builtin().unwrap();
    let github = catalogue.get(&"github".parse().unwrap()).unwrap();
    github.recognise(&RequestView {
        method: &Method::POST,
        path: "/graphql",
        query: None,
        content_type: Some("application/json"),
        body: body.to_string().as_bytes(),
    })
}

#[test]
fn a_query_is_the_action_of_its_fields_on_the_repository_it_names() {
    let query = "query Q($o: String!) { r: repository(owner: $o, name: \"Site\") { ...I } }
        fragment I on Repository { issue(number: 7) { __typename title comments(first: 3) { nodes { body } } } }";
    let mapped = ask(&json!({ "query": query, "variables": { "o": "Acme" }, "operationName": "Q" })).unwrap();
    assert_eq!(mapped.action.to_string(), "github:issues.read");
    assert_eq!(mapped.resources[0].to_string(), "repo:acme/site");
    let query =
        "{ repository(owner: \"a\", name: \"b\") { pullRequests(first: 5) { nodes { title } totalCount } } }";
    assert_eq!(
        ask(&json!({ "query": query })).unwrap().action.to_string(),
        "github:pulls.list"
    );
}

#[test]
fn unknown_fields_other_roots_several_actions_and_mutations_are_denied() {
    let inside = |fields: &str| json!({ "query": format!("{{ repository(owner: \"a\", name: \"b\") {{ {fields} }} }}") });
    for body in [
        inside("issue(number: 1) { title viewerDidAuthor }"),
        inside("issue(number: 1) { title } pullRequest(number: 1) { title }"),
        inside("object(expression: \"HEAD:secret\") { id }"),
        inside("owner { repositories { nodes { name } } }"),
        json!({ "query": "{ viewer { login } }" }),
        json!({ "query": "{ a: repository(owner: \"a\", name: \"b\") { name } b: repository(owner: \"c\", name: \"d\") { name } }" }),
        json!({ "query": "{ repository(owner: $o, name: \"b\") { name } }" }),
        json!({ "query": "{ repository(owner: \"..\", name: \"b\") { name } }" }),
        json!({ "query": "mutation { deleteIssue(input: { issueId: \"I_1\" }) { clientMutationId } }" }),
        json!({ "query": "{ repository(owner: \"a\", name: \"b\") { name } }", "extensions": {} }),
        json!([{ "query": "{ repository(owner: \"a\", name: \"b\") { name } }" }]),
        json!({ "id": "a persisted query" }),
    ] {
        assert!(ask(&body).is_err(), "{body}");
    }
    assert!(ask(&inside("name description")).is_ok());
}
