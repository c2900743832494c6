//! Conversations, move by move.

use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;
use crate::agent::model::Asked;

fn start(api: ModelApi) -> Conversation {
    let mut conversation = Conversation::new(api, "m".into(), "be good".into(), vec![], "the item");
    assert!(matches!(
        conversation.step(Happened::Started)[..],
        [Request::AskModel(_)]
    ));
    conversation
}

fn says(text: &str) -> Happened {
    Happened::Answered(Reply {
        message: Some(json!({ "role": "assistant", "content": text })),
        text: text.into(),
        calls: vec![],
        stop: Stop::Complete,
    })
}

fn calls(names: &[&str], arguments: Option<Map<String, Value>>) -> Happened {
    let asked = |name: &&str| Asked {
        id: format!("id_{name}"),
        name: (*name).into(),
        arguments: arguments.clone(),
    };
    Happened::Answered(Reply {
        message: Some(json!({ "role": "assistant", "content": [] })),
        text: String::new(),
        calls: names.iter().map(asked).collect(),
        stop: Stop::Complete,
    })
}

fn answered(place: usize, outcome: ToolOutcome) -> Happened {
    Happened::ToolAnswered { place, outcome }
}

fn body(requests: &[Request]) -> &Value {
    match requests {
        [Request::AskModel(body)] => body,
        other => panic!("not a question: {other:?}"),
    }
}

fn ending(requests: &[Request]) -> &Ending {
    match requests {
        [Request::Finish(ending)] => ending,
        other => panic!("not an end: {other:?}"),
    }
}

#[test]
fn a_text_without_calls_closes_the_item() {
    let mut conversation = start(ModelApi::Anthropic);
    let requests = conversation.step(says("All done."));
    assert_eq!(
        *ending(&requests),
        Ending {
            result: AckResult::Done,
            note: "All done.".into(),
            steps: 1
        }
    );
    assert_eq!(conversation.step(says("more")), []);
}

#[test]
fn results_go_back_in_the_order_of_the_calls() {
    let mut conversation = start(ModelApi::Anthropic);
    let requests = conversation.step(calls(&["a", "b"], Some(Map::new())));
    assert!(
        matches!(&requests[..], [Request::CallTool(a), Request::CallTool(b)] if a.name == "a" && b.place == 1)
    );
    assert_eq!(
        conversation.step(answered(1, ToolOutcome::refused("not granted"))),
        []
    );
    let requests = conversation.step(answered(0, ToolOutcome::happened("ok")));
    let messages = body(&requests)["messages"].as_array().unwrap().clone();
    let results = &messages.last().unwrap()["content"];
    assert_eq!(results[0]["tool_use_id"], "id_a");
    assert_eq!(results[1]["content"], "not granted");
    assert_eq!(results[1]["is_error"], true);
}

#[test]
fn the_other_api_gets_a_message_for_each_result() {
    let mut conversation = start(ModelApi::Openai);
    conversation.step(calls(&["a"], Some(Map::new())));
    let requests = conversation.step(answered(0, ToolOutcome::refused("no")));
    let body = body(&requests);
    assert_eq!(
        body["messages"][0],
        json!({"role": "system", "content": "be good"})
    );
    let last = body["messages"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(
        last,
        json!({"role": "tool", "tool_call_id": "id_a", "content": "error: no"})
    );
}

#[test]
fn three_answers_in_a_row_that_make_no_sense_are_the_end() {
    let mut conversation = start(ModelApi::Anthropic);
    assert_eq!(
        body(&conversation.step(calls(&["a"], None)))["messages"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    let told = conversation.step(says("  "));
    assert!(body(&told).to_string().contains("was empty"));
    let end = conversation.step(Happened::Failed("502".into()));
    assert_eq!(ending(&end).result, AckResult::Failed);
    assert!(ending(&end).note.contains("502"), "{:?}", ending(&end));
}

#[test]
fn a_sensible_answer_forgives_the_ones_before() {
    let mut conversation = start(ModelApi::Anthropic);
    for _ in 0..4 {
        body(&conversation.step(Happened::Unreadable("not JSON".into())));
        body(&conversation.step(Happened::Failed("500".into())));
        conversation.step(calls(&["a"], Some(Map::new())));
        body(&conversation.step(answered(0, ToolOutcome::refused("denied"))));
    }
}

#[test]
fn calls_to_tools_that_do_not_exist_make_no_sense_either() {
    let mut conversation = start(ModelApi::Openai);
    for _ in 0..2 {
        conversation.step(calls(&["nope"], Some(Map::new())));
        body(&conversation.step(answered(0, ToolOutcome::nonsense("no such tool"))));
    }
    conversation.step(calls(&["nope"], Some(Map::new())));
    let end = conversation.step(answered(0, ToolOutcome::nonsense("no such tool")));
    assert!(ending(&end).note.contains("no such tool"));
}

#[test]
fn a_busy_model_is_waited_for_as_it_says_within_bounds() {
    let mut conversation = start(ModelApi::Anthropic);
    let requests = conversation.step(Happened::Busy(Some(Duration::from_secs(7))));
    assert!(matches!(requests[..], [Request::Wait(wait), Request::AskModel(_)] if wait.as_secs() == 7));
    let requests = conversation.step(Happened::Busy(Some(Duration::from_mins(15))));
    assert!(matches!(requests[..], [Request::Wait(wait), _] if wait == MAX_WAIT));
    assert_eq!(
        ending(&conversation.step(Happened::Busy(None))).result,
        AckResult::Failed
    );
}

#[test]
fn a_model_that_may_not_be_used_ends_the_item() {
    let mut conversation = start(ModelApi::Anthropic);
    let end = conversation.step(Happened::Forbidden("no grant for this model".into()));
    assert!(ending(&end).note.contains("no grant for this model"));
}

#[test]
fn half_an_answer_makes_no_call() {
    let mut conversation = start(ModelApi::Anthropic);
    let mut cut = calls(&["send_signal"], Some(Map::new()));
    if let Happened::Answered(reply) = &mut cut {
        reply.stop = Stop::Cut;
    }
    assert!(body(&conversation.step(cut)).to_string().contains("length limit"));
}

#[test]
fn calls_beyond_the_bound_are_not_made() {
    let mut conversation = start(ModelApi::Anthropic);
    let names = vec!["a"; MAX_CALLS + 5];
    let requests = conversation.step(calls(&names, Some(Map::new())));
    assert_eq!(requests.len(), MAX_CALLS);
}

#[test]
fn a_conversation_without_end_is_ended() {
    let mut conversation = start(ModelApi::Anthropic);
    for _ in 1..MAX_STEPS {
        conversation.step(calls(&["a"], Some(Map::new())));
        body(&conversation.step(answered(0, ToolOutcome::happened("ok"))));
    }
    conversation.step(calls(&["a"], Some(Map::new())));
    let end = conversation.step(answered(0, ToolOutcome::happened("ok")));
    assert_eq!(
        (ending(&end).result, ending(&end).steps),
        (AckResult::Failed, MAX_STEPS)
    );
}

fn any_happening() -> impl Strategy<Value = Happened> {
    prop_oneof![
        1 => "[a ]{0,2}".prop_map(|text| says(&text)),
        6 => (0_usize..20, any::<bool>())
            .prop_map(|(count, good)| calls(&vec!["t"; count], good.then(Map::new))),
        2 => Just(Happened::Unreadable("x".into())),
        2 => Just(Happened::Failed("x".into())),
        2 => any::<Option<u16>>()
            .prop_map(|wait| Happened::Busy(wait.map(|seconds| Duration::from_secs(seconds.into())))),
        1 => (0_usize..20).prop_map(|place| answered(place, ToolOutcome::happened("stray"))),
    ]
}

proptest! {
    /// Whatever the model does, an item ends once, within its bounds, and every question is in order.
    #[test]
    fn every_conversation_ends_once_and_within_its_bounds(
        answers in proptest::collection::vec((any_happening(), 0_u8..3), 400),
    ) {
        let mut conversation = Conversation::new(ModelApi::Anthropic, "m".into(), "s".into(), vec![], "i");
        let mut queue = conversation.step(Happened::Started);
        let (mut asked, mut ended) = (0, 0);
        let mut answers = answers.into_iter();
        while let Some(request) = (!queue.is_empty()).then(|| queue.remove(0)) {
            match request {
                Request::Wait(wait) => prop_assert!(wait <= MAX_WAIT),
                Request::AskModel(_) => {
                    asked += 1;
                    let (happened, _) = answers.next().unwrap();
                    let stray = matches!(happened, Happened::ToolAnswered { .. });
                    queue.extend(conversation.step(happened));
                    if stray {
                        queue.extend(conversation.step(says("enough")));
                    }
                }
                Request::CallTool(call) => {
                    let outcome = match call.place % 3 {
                        0 => ToolOutcome::happened("y"),
                        1 => ToolOutcome::refused("n"),
                        _ => ToolOutcome::nonsense("?"),
                    };
                    queue.extend(conversation.step(answered(call.place, outcome)));
                }
                Request::Finish(_) => ended += 1,
            }
        }
        prop_assert_eq!(ended, 1);
        prop_assert!(asked <= MAX_STEPS * MAX_BUSY);
    }
}
