//! Writes a small tree of files, then lists it with sizes: std::fs, std::env, std::collections.
use std::{env, fs, io, path::Path};

fn list(dir: &Path, depth: usize) -> io::Result<u64> {
    let mut entries: Vec<_> = fs::read_dir(dir)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(|e| e.file_name());
    let mut total = 0;
    for e in entries {
        let meta = e.metadata()?;
        println!("{}{} {}", "  ".repeat(depth), e.file_name().to_string_lossy(), meta.len());
        total += if meta.is_dir() { list(&e.path(), depth + 1)? } else { meta.len() };
    }
    Ok(total)
}

fn main() -> io::Result<()> {
    let root = env::args().nth(1).unwrap_or_else(|| "/tree".into());
    fs::create_dir_all(format!("{root}/a/b"))?;
    for (i, name) in ["one.txt", "a/two.txt", "a/b/three.txt"].iter().enumerate() {
        fs::write(format!("{root}/{name}"), "x".repeat((i + 1) * 10))?;
    }
    let total = list(Path::new(&root), 0)?;
    println!("{total} bytes");
    Ok(())
}
