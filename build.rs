//! Compiles `proto/onnx.proto` to Rust types without `protoc`, and writes the table of known
//! fields by which `onnx::wire` finds what the types would silently drop.

use std::{env, error::Error, fmt::Write, fs, path::PathBuf};

use prost_types::{DescriptorProto, FileDescriptorSet, field_descriptor_proto::Type};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto/onnx.proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let files = protox::compile(["proto/onnx.proto"], ["proto"])?;
    fs::write(out.join("fields.rs"), field_table(&files))?;
    prost_build::Config::new()
        .bytes(["."])
        .out_dir(&out)
        .compile_fds(files)?;
    Ok(())
}

/// One row per message: its full name and, per field, number and the message it holds (or "").
fn field_table(files: &FileDescriptorSet) -> String {
    let mut table = String::from("&[\n");
    for file in &files.file {
        for message in &file.message_type {
            add_message(&mut table, message, &format!(".{}", file.package()));
        }
    }
    table.push(']');
    table
}

fn add_message(table: &mut String, message: &DescriptorProto, scope: &str) {
    let name = format!("{scope}.{}", message.name());
    let mut fields = message.field.iter().collect::<Vec<_>>();
    fields.sort_by_key(|field| field.number());
    let mut row = format!("    (\"{name}\", &[");
    for field in fields {
        let inner = match field.r#type() {
            Type::Message => field.type_name(),
            _ => "",
        };
        let _ = write!(row, "({}, \"{inner}\"), ", field.number());
    }
    row.push_str("]),\n");
    table.push_str(&row);
    for nested in &message.nested_type {
        add_message(table, nested, &name);
    }
}
