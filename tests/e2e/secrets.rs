tests!();
