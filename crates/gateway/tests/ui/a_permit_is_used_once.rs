//! A permit is taken by value: it serves one call.

async fn twice(
    vault: &clawstaff_vault::Vault,
    permit: clawstaff_policy::Permit,
    receipt: &clawstaff_audit::Receipt,
    first: clawstaff_gateway::map::Call,
    second: clawstaff_gateway::map::Call,
) {
    let _first = clawstaff_gateway::inject::inject(vault, permit, receipt, first).await;
    let _second = clawstaff_gateway::inject::inject(vault, permit, receipt, second).await;
}

fn main() {}
