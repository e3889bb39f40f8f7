//! The benchmark's own programs: they load, and judge as they should.

use anyhow::Result;
use enforcer::policy::Action;
use enforcer_tests::bench::{
    measure::{Bench, frame},
    sets,
};

#[test]
fn the_benchmarks_programs_load_and_judge() -> Result<()> {
    const PASS: u32 = 2;
    let mut rng: rand_chacha::ChaCha8Rng = rand::SeedableRng::seed_from_u64(1);
    for (v6, floor, program) in [(false, "rewrite4", "judge4"), (true, "rewrite6", "judge6")] {
        let nets = sets::prefixes(&mut rng, 100, v6);
        let mut bench = Bench::new(&sets::one_rule(nets.clone(), Action::Allow), 1.0)?;
        bench.aim(|| sets::within(&mut rng, &nets[7]));
        assert_eq!(bench.time(floor, &[program], &frame(v6)?)?[0].1, PASS);
    }
    Ok(())
}
