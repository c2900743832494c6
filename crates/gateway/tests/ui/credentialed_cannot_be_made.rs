//! What forward sends has one constructor, inject.

async fn shortcut(upstream: &clawstaff_gateway::forward::Upstream, waits: &clawstaff_gateway::waits::Waits, request: String) {
    let _sent = upstream.send(request, waits).await;
    let _made = clawstaff_gateway::inject::Credentialed {};
}

fn main() {}
