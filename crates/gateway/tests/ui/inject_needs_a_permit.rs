//! A receipt alone does not get a credential.

async fn shortcut(vault: &clawstaff_vault::Vault, receipt: &clawstaff_audit::Receipt, call: clawstaff_gateway::map::Call) {
    let _sent = clawstaff_gateway::inject::inject(vault, receipt, call).await;
}

fn main() {}
