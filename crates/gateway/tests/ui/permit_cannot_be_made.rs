//! A permit has private fields and no public constructor.

fn main() {
    let _permit = clawstaff_policy::Permit {};
}
