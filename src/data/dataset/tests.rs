use super::*;

#[test]
fn the_fashion_mnist_sample_is_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/fashion-mnist.npz");
    let input = InputShape::from_dims(&[None, Some(1), Some(28), Some(28)], None).unwrap();
    let data = Dataset::open(&path, &DataOptions::new(input, "images")).unwrap();
    assert_eq!(data.len(), 2000);
    println!("{}\n{}", data.describe(), data.fingerprint().unwrap());
    let batch = data.read(&[0, 1999]).unwrap();
    assert_eq!(batch.shape, [2, 1, 28, 28]);
    assert_eq!(batch.labels.unwrap().len(), 2);
}
