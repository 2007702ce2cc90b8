//! By method: the traits are imported outside of the body, where the attribute does not see it.

use in_netns::in_netns;
use rayon::prelude::*;

#[in_netns("blue")]
fn methods(mut list: Vec<u32>) -> u32 {
    list.par_sort();
    list.par_iter_mut().for_each(|number| *number += 1);
    list.par_chunks(2).for_each(drop);
    list.iter().par_bridge().for_each(drop);
    let sum = list.par_iter().sum::<u32>();
    sum + list.into_par_iter().sum::<u32>() + IntoParallelIterator::into_par_iter(0..3_u32).sum::<u32>()
}

fn main() {}
