mod graph; mod image; mod names; mod roots; mod search; mod sinks; mod verdict;
fn main() -> anyhow::Result<()> {
    let t = std::time::Instant::now();
    let p = image::Program::read(std::path::Path::new(&std::env::args().nth(1).unwrap()))?;
    let image = p.image()?;
    eprintln!("image {:?}", t.elapsed());
    let graph = graph::Graph::new(&image);
    let functions = roots::Functions::new(&graph);
    eprintln!("functions {:?}", t.elapsed());
    let table = sinks::Table::load(None)?;
    eprintln!("table {:?}", t.elapsed());
    let roots = roots::find(&graph, &functions, &table)?;
    eprintln!("roots {} {:?}", roots.len(), t.elapsed());
    let ground = search::Ground::new(&graph, &functions, &table);
    let only = std::env::args().nth(2);
    for root in &roots {
        let r = search::search(&ground, root, &search::Limits{stops:true, closed:&[]});
        let mut v: Vec<_> = r.hits.iter().map(|h| table.sink(h.0).verdict).collect(); v.sort(); v.dedup();
        println!("{:60} {} {:?} reached {} {}", root.name, root.contained.0, v, r.order.len(), root.opaque.is_some());
        if only.as_deref().is_some_and(|o| root.name.contains(o)) {
            let mut done = vec![];
            for (s, n) in &r.hits {
                let v = table.sink(*s).verdict;
                if done.contains(&v) {continue} done.push(v);
                for st in r.path_to(*n) { println!("      {:?} {} {}", graph.image.kind(st.node), ground.seen(st.node).path, st.came.is_some_and(|c| c.by.is_some_and(|b| b.call))); }
            }
            for n in &r.order { if graph.image.kind(*n)==image::Kind::Import && !table.knows_foreign(graph.image.name(*n), graph.image.library(*n)) { println!("     IMPORT {}", graph.image.name(*n)); } }
        }
    }
    eprintln!("done {:?}", t.elapsed());
    Ok(())
}
