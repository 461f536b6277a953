use weft_node_agent::redirect::*;
#[test]
fn load() {
    let start = std::time::Instant::now();
    let r = Redirect::load(&RedirectOptions::default());
    match &r {
        Ok(r) => println!(
            "{} {:?} {:?}",
            r.capabilities(),
            r.table_sizes(),
            start.elapsed()
        ),
        Err(e) => panic!("{e}"),
    }
}
