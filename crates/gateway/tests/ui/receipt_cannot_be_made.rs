//! A receipt has private fields and no public constructor.

fn main() {
    let _receipt = clawstaff_audit::Receipt {};
}
