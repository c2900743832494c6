//! A permit alone does not get a credential.

async fn shortcut(vault: &clawstaff_vault::Vault, permit: clawstaff_policy::Permit, call: clawstaff_gateway::map::Call) {
    let _sent = clawstaff_gateway::inject::inject(vault, permit, call).await;
}

fn main() {}
