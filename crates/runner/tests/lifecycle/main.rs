//! The runner from outside: a scripted back end, and stand-ins for the control plane and the gateway.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod world;

use clawstaff_api::nodes::{Cause, Desired, Phase};
use clawstaff_cage::{
    Counts, Stats,
    reached::{Periods, Room},
};
use clawstaff_runner::plan::HOLD_FOR;
use clawstaff_types::{EventKind, Outcome, spec::Limit};
use world::World;

#[tokio::test]
async fn a_wanted_cage_is_started_once_its_door_is_open_and_the_intent_is_durable() {
    let world = World::new().await;
    world.door_closed("a");
    world.want(&[world.claw("a", Desired::Running)]);
    let run = world.run();
    world.phase("a", Phase::Starting).await;
    assert_eq!(world.acts(), Vec::<String>::new());
    world.open_door("a", 1);
    world.phase("a", Phase::Running).await;
    assert_eq!(
        world.history(),
        [
            "record claw.started intent",
            "create a-00000001",
            "start a-00000001",
            "record claw.started Succeeded",
        ]
    );
    run.stop().await;
}

#[tokio::test]
async fn a_door_of_an_older_revision_or_policy_is_not_enough() {
    let world = World::new().await;
    let mut claw = world.claw("a", Desired::Running);
    claw.revision = 2;
    claw.needs_gateway_revision = 50;
    world.want(&[claw]);
    world.door("a", 1, 50);
    let run = world.run();
    world.phase("a", Phase::Starting).await;
    world.door("a", 2, 49);
    world.asked_for_door().await;
    assert_eq!(world.acts(), Vec::<String>::new());
    world.door("a", 2, 50);
    world.phase("a", Phase::Running).await;
    run.stop().await;
}

#[tokio::test]
async fn wishes_are_fulfilled_one_after_the_other() {
    let world = World::new().await;
    let run = world.run();
    for (desired, phase) in [
        (Desired::Running, Phase::Running),
        (Desired::Paused, Phase::Paused),
        (Desired::Running, Phase::Running),
        (Desired::Stopped, Phase::Stopped),
    ] {
        world.want(&[world.claw("a", desired)]);
        world.phase("a", phase).await;
    }
    world.destroy("a");
    world.phase("a", Phase::Destroyed).await;
    assert_eq!(
        world.acts(),
        ["create", "start", "pause", "resume", "stop", "destroy"].map(|act| format!("{act} a-00000001"))
    );
    run.stop().await;
}

#[tokio::test]
async fn a_new_revision_and_a_restart_both_stop_and_start() {
    let world = World::new().await;
    let mut claw = world.claw("a", Desired::Running);
    world.want(&[claw.clone()]);
    let run = world.run();
    world.started("a", 1).await;
    claw.revision = 2;
    world.want(&[claw.clone()]);
    world.open_door("a", 2);
    let status = world.started("a", 2).await;
    assert_eq!(status.revision, 2);
    claw.generation = 1;
    world.want(&[claw]);
    world.started("a", 3).await;
    assert_eq!(
        world.acts().iter().filter(|act| act.starts_with("stop")).count(),
        2
    );
    run.stop().await;
}

#[tokio::test]
async fn one_cage_does_not_notice_what_happens_to_another() {
    let world = World::new().await;
    world.want(&[
        world.claw("a", Desired::Running),
        world.claw("b", Desired::Running),
    ]);
    let run = world.run();
    world.phase("a", Phase::Running).await;
    world.phase("b", Phase::Running).await;
    world.destroy("a");
    world.phase("a", Phase::Destroyed).await;
    world.phase("b", Phase::Running).await;
    let of_b: Vec<String> = world
        .acts()
        .into_iter()
        .filter(|act| act.contains("b-"))
        .collect();
    assert_eq!(of_b, ["create b-00000001", "start b-00000001"]);
    run.stop().await;
}

#[tokio::test]
async fn nothing_is_done_that_cannot_be_recorded() {
    let world = World::new().await;
    world.refuse_records(true);
    world.want(&[world.claw("a", Desired::Running)]);
    let run = world.run();
    let status = world.reason("a", "could not be recorded").await;
    assert_eq!(status.phase, Phase::Starting);
    assert_eq!(world.acts(), Vec::<String>::new());
    world.refuse_records(false);
    world.phase("a", Phase::Running).await;
    run.stop().await;
}

#[tokio::test]
async fn cages_are_frozen_while_the_gateway_is_lost_and_both_are_recorded_when_it_is_back() {
    let world = World::new().await;
    world.want(&[world.claw("a", Desired::Running)]);
    let run = world.run();
    world.phase("a", Phase::Running).await;
    world.lose_gateway().await;
    let status = world.phase("a", Phase::Paused).await;
    assert!(status.reason.unwrap().contains("gateway"));
    assert_eq!(status.cause, Some(Cause::GatewayLost));
    // A wish meanwhile changes nothing: it could not be recorded.
    world.want(&[world.claw("a", Desired::Stopped)]);
    world.want(&[world.claw("a", Desired::Running)]);
    world.bring_gateway_back().await;
    world.phase("a", Phase::Running).await;
    world
        .recorded(EventKind::ClawPaused, Some(Outcome::Succeeded))
        .await;
    world
        .recorded(EventKind::ClawResumed, Some(Outcome::Succeeded))
        .await;
    assert_eq!(world.acts()[2..], ["pause a-00000001", "resume a-00000001"]);
    run.stop().await;
}

#[tokio::test]
async fn a_gateway_that_stays_lost_costs_the_run_and_one_that_comes_back_starts_it_again() {
    let world = World::new().await;
    world.want(&[world.claw("a", Desired::Running)]);
    let run = world.run();
    world.phase("a", Phase::Running).await;
    world.lose_gateway().await;
    let status = world.phase("a", Phase::Paused).await;
    assert_eq!(status.cause, Some(Cause::GatewayLost));
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_millis(HOLD_FOR)).await;
    let status = world.phase("a", Phase::Stopped).await;
    tokio::time::resume();
    assert_eq!(status.cause, Some(Cause::GatewayLost));
    assert_eq!(world.last_act(), "stop a-00000001");
    world.bring_gateway_back().await;
    world.started("a", 2).await;
    world
        .recorded(EventKind::ClawPaused, Some(Outcome::Succeeded))
        .await;
    world
        .recorded(EventKind::ClawStopped, Some(Outcome::Succeeded))
        .await;
    run.stop().await;
}

#[tokio::test]
async fn a_control_plane_that_has_forgotten_everything_costs_no_data() {
    let world = World::new().await;
    let claws = [
        world.claw("a", Desired::Running),
        world.claw("b", Desired::Stopped),
    ];
    world.want(&claws);
    let run = world.run();
    world.phase("a", Phase::Running).await;
    world.want(&[]);
    let status = world.phase("a", Phase::Paused).await;
    assert_eq!(status.cause, Some(Cause::NotListed));
    world
        .recorded(EventKind::ClawPaused, Some(Outcome::Succeeded))
        .await;
    world.want(&claws);
    world.phase("a", Phase::Running).await;
    assert_eq!(world.acts()[2..], ["pause a-00000001", "resume a-00000001"]);
    run.stop().await;
}

#[tokio::test]
async fn an_agent_that_ends_is_started_again_and_a_crash_loop_is_given_up() {
    let world = World::new().await;
    world.ends_at_once(true);
    world.want(&[world.claw("a", Desired::Running)]);
    let run = world.run();
    // Four waits of 1, 2, 4 and 8 s, which pass in no time here.
    tokio::time::pause();
    let status = world.phase("a", Phase::Failed).await;
    let reason = status.reason.unwrap();
    assert!(
        reason.contains("code 3") && reason.contains("not started again"),
        "{reason}"
    );
    assert!(
        !reason.contains("SECRET"),
        "what a cage printed must stay on the host"
    );
    assert_eq!((status.starts, status.cause), (5, Some(Cause::CrashLoop)));
    tokio::time::resume();
    world.recorded(EventKind::ClawFailed, Some(Outcome::Failed)).await;
    // A restart by hand tries again.
    world.ends_at_once(false);
    let mut claw = world.claw("a", Desired::Running);
    claw.generation = 1;
    world.want(&[claw]);
    world.phase("a", Phase::Running).await;
    run.stop().await;
}

#[tokio::test]
async fn out_of_memory_is_said_in_words() {
    let world = World::new().await;
    world.want(&[world.claw("a", Desired::Running)]);
    let run = world.run();
    world.phase("a", Phase::Running).await;
    world.end_by_memory("a");
    let status = world.reason("a", "limits.memory").await;
    assert_eq!(status.cause, Some(Cause::OutOfMemory));
    run.stop().await;
}

#[tokio::test]
async fn a_limit_that_is_met_by_a_running_cage_is_its_cause() {
    let nothing = Counts::default();
    let busy = Some(Periods {
        all: 100,
        throttled: 90,
    });
    let cases = [
        (
            Counts {
                oom_kills: Some(1),
                ..nothing
            },
            Cause::OutOfMemory,
            "limits.memory",
        ),
        (
            Counts {
                pids_refused: Some(1),
                ..nothing
            },
            Cause::PidsReached,
            "limits.pids",
        ),
        (
            Counts {
                bytes: Room::Full("/data"),
                ..nothing
            },
            Cause::StorageFull,
            "limits.storage",
        ),
        (
            Counts {
                files: Room::Full("/tmp"),
                ..nothing
            },
            Cause::InodesUsedUp,
            "`/tmp`",
        ),
        (
            Counts {
                descriptors: Some(1024),
                ..nothing
            },
            Cause::DescriptorsReached,
            "1024 files",
        ),
        (
            Counts {
                output_lost: Some(8 << 20),
                ..nothing
            },
            Cause::OutputFlooded,
            "prints more",
        ),
        (
            Counts {
                periods: busy,
                ..nothing
            },
            Cause::CpusReached,
            "limits.cpus",
        ),
    ];
    for (counts, cause, words) in cases {
        let world = World::new().await;
        world.measures(Stats {
            counts,
            ..Stats::default()
        });
        world.want(&[world.claw("a", Desired::Running)]);
        let run = world.run();
        let status = world.reason("a", words).await;
        assert_eq!((status.phase, status.cause), (Phase::Running, Some(cause)));
        run.stop().await;
    }
}

#[tokio::test]
async fn a_limit_that_cannot_be_held_refuses_the_start_unless_the_spec_accepts_it() {
    let world = World::new().await;
    world.cannot_limit(Limit::Storage);
    let mut claw = world.claw("a", Desired::Running);
    world.want(&[claw.clone()]);
    let run = world.run();
    let status = world.phase("a", Phase::Failed).await;
    let reason = status.reason.unwrap();
    assert!(
        reason.contains("storage") && reason.contains("buy a disk"),
        "{reason}"
    );
    assert_eq!(world.acts(), Vec::<String>::new());
    claw.limits.accept_unenforced = vec![Limit::Storage];
    claw.revision = 2;
    world.open_door("a", 2);
    world.want(&[claw]);
    world.phase("a", Phase::Running).await;
    run.stop().await;
}

#[tokio::test]
async fn without_a_control_plane_the_last_state_is_kept_to() {
    let world = World::new().await;
    world.want(&[world.claw("a", Desired::Running)]);
    let run = world.run();
    world.phase("a", Phase::Running).await;
    run.stop().await;
    assert_eq!(world.last_act(), "stop a-00000001");
    world.lose_control_plane();
    let run = world.run();
    world.acted("start a-00000001", 2).await;
    run.stop().await;
}

#[tokio::test]
async fn a_new_runner_adopts_the_cages_that_it_finds() {
    let world = World::new().await;
    world.want(&[world.claw("a", Desired::Running)]);
    let run = world.run_keeping_cages();
    world.phase("a", Phase::Running).await;
    run.stop().await;
    assert_eq!(world.last_act(), "start a-00000001");
    world.forget_status();
    let run = world.run();
    let status = world.phase("a", Phase::Running).await;
    assert_eq!(status.starts, 1);
    assert_eq!(world.last_act(), "start a-00000001");
    run.stop().await;
    assert_eq!(world.last_act(), "stop a-00000001");
}

#[tokio::test]
async fn a_command_in_a_cage_is_recorded_before_it_runs_and_only_when_it_is_allowed() {
    let world = World::new().await;
    world.want(&[world.claw("a", Desired::Running)]);
    let run = world.run();
    world.phase("a", Phase::Running).await;
    let answer = world.exec("a", &["/bin/true"]).await;
    assert_eq!(answer["code"], 0);
    let history = world.history();
    let tail = &history[history.len() - 3..];
    assert_eq!(
        tail,
        [
            "record cage.exec intent",
            "exec a-00000001",
            "record cage.exec Succeeded"
        ]
    );
    run.stop().await;
    let run = world.run_without_exec();
    world.phase("a", Phase::Running).await;
    assert_eq!(world.exec("a", &["/bin/true"]).await["code"], "forbidden");
    run.stop().await;
}

#[tokio::test]
async fn the_end_of_the_runner_stops_cages_even_when_the_gateway_is_lost() {
    let world = World::new().await;
    world.want(&[world.claw("a", Desired::Running)]);
    let run = world.run();
    world.phase("a", Phase::Running).await;
    world.lose_gateway().await;
    world.phase("a", Phase::Paused).await;
    run.stop().await;
    assert_eq!(world.last_act(), "stop a-00000001");
    world.bring_gateway_back().await;
    world.want(&[world.claw("a", Desired::Stopped)]);
    let run = world.run();
    world
        .recorded(EventKind::ClawStopped, Some(Outcome::Succeeded))
        .await;
    run.stop().await;
}

#[tokio::test]
async fn a_selftest_is_recorded_with_what_came_of_it() {
    let world = World::new().await;
    world.want(&[world.claw("a", Desired::Running)]);
    let run = world.run();
    world.phase("a", Phase::Running).await;
    // The scripted cage answers no probe, which must never count as a boundary that stood.
    let said = world.selftest("a").await;
    assert_eq!((&said["claw"], &said["revision"]), (&"a".into(), &1.into()));
    assert!(!said["host"]["kernel"].as_str().unwrap().is_empty());
    let answers = said["probes"].as_array().unwrap();
    let told = answers.iter().filter(|answer| answer["judge"] != "host");
    assert!(told.clone().count() > 20);
    assert!(told.clone().all(|answer| answer["held"] == false));
    world.recorded(EventKind::CageExec, Some(Outcome::Failed)).await;
    run.stop().await;
}

#[tokio::test]
async fn a_snapshot_is_on_record_before_it_is_taken_and_a_name_that_is_none_touches_nothing() {
    let world = World::new().await;
    world.want(&[world.claw("a", Desired::Running)]);
    let run = world.run();
    world.phase("a", Phase::Running).await;
    let taken = world.snapshot("a", "snapshots", "").await;
    assert_eq!(taken["snapshot"], "20260131T235959.123Z");
    world
        .recorded(EventKind::CageExec, Some(Outcome::Succeeded))
        .await;
    let history = world.history();
    let act = history
        .iter()
        .position(|one| one.starts_with("snapshot"))
        .unwrap();
    assert!(
        history[..act].iter().any(|one| one.contains("cage.exec")),
        "{history:?}"
    );
    let refused = world
        .snapshot("a", "snapshots/restore", r#"{"snapshot": "../../etc"}"#)
        .await;
    assert!(
        refused["detail"].as_str().unwrap().contains("named by its time"),
        "{refused}"
    );
    run.stop().await;
}

#[tokio::test]
async fn a_cage_that_a_long_snapshot_keeps_still_is_not_said_to_be_resumed() {
    let world = World::new().await;
    world.want(&[world.claw("a", Desired::Running)]);
    let run = world.run();
    world.phase("a", Phase::Running).await;
    let copying = world.copies_slowly();
    let looking = async {
        world.acted("snapshot a-00000001", 1).await;
        world.looked(3).await;
        assert_eq!(world.phase("a", Phase::Running).await.cause, None);
        drop(copying);
    };
    let (taken, ()) = tokio::join!(world.snapshot("a", "snapshots", ""), looking);
    assert_eq!(taken["snapshot"], "20260131T235959.123Z");
    world.looked(2).await;
    assert_eq!(
        world.acts(),
        ["create a-00000001", "start a-00000001", "snapshot a-00000001"]
    );
    run.stop().await;
}
