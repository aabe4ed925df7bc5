//! Two places while objects move: what each of them has afterwards.

use bytes::Bytes;
use futures_util::{TryStreamExt, stream};
use vidcore::storage::Objects;
use vidcore::storage::objects::ObjectError;
use vidcore::store::BoxError;

/// Both places, and the two as one.
fn places() -> (Objects, Objects, Objects) {
    let (new, old) = (Objects::memory(), Objects::memory());
    let both = new.clone().with_fallback(old.clone());
    (new, old, both)
}

async fn put(objects: &Objects, key: &str, bytes: &'static [u8]) {
    let chunk: Result<_, BoxError> = Ok(Bytes::from_static(bytes));
    objects.write(key, stream::iter([chunk]), u64::MAX).await.expect("there is room");
}

async fn get(objects: &Objects, key: &str) -> Result<Vec<u8>, ObjectError> {
    let chunks: Vec<Bytes> = objects.read(key, None).await?.try_collect().await?;
    Ok(chunks.concat())
}

async fn keys(objects: &Objects) -> Vec<String> {
    let mut keys = objects.keys_under("").await.expect("memory answers");
    keys.sort();
    keys
}

#[tokio::test]
async fn what_is_not_here_is_read_there_and_stays_there() {
    let (new, old, both) = places();
    put(&old, "originals/v/u", b"old bytes").await;
    assert_eq!(b"old bytes", &*get(&both, "originals/v/u").await.expect("it is there"));
    let part: Vec<Bytes> =
        both.read("originals/v/u", Some(4..9)).await.expect("it is there").try_collect().await.expect("memory answers");
    assert_eq!(b"bytes", &*part.concat());
    assert_eq!(Some(9), both.size("originals/v/u").await.expect("memory answers"));
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let file = folder.path().join("source");
    both.materialize("originals/v/u", &file).await.expect("it is there");
    assert_eq!(b"old bytes", &*std::fs::read(&file).expect("it was made"));
    assert!(keys(&new).await.is_empty());
    assert!(matches!(get(&both, "originals/v/none").await, Err(ObjectError::NotFound)));
}

#[tokio::test]
async fn what_is_written_is_written_here_and_stands_before_what_is_there() {
    let (new, old, both) = places();
    put(&old, "originals/v/u", b"old").await;
    put(&both, "originals/v/u", b"newer").await;
    assert_eq!(b"newer", &*get(&both, "originals/v/u").await.expect("it is there"));
    assert_eq!((Some(5), Some(3)), sizes(&new, &old, "originals/v/u").await);
    assert_eq!(["originals/v/u"], *keys(&both).await);
}

async fn sizes(new: &Objects, old: &Objects, key: &str) -> (Option<u64>, Option<u64>) {
    (new.size(key).await.expect("memory answers"), old.size(key).await.expect("memory answers"))
}

#[tokio::test]
async fn what_is_deleted_does_not_come_back_from_there() {
    let (new, old, both) = places();
    for place in [&new, &old] {
        put(place, "staging/u/1", b"x").await;
        put(place, "staging/u/2", b"x").await;
        put(place, "renditions/v/1/index", b"x").await;
    }
    put(&old, "staging/u/3", b"x").await;
    both.delete("renditions/v/1/index").await.expect("memory answers");
    both.delete_under("staging/u").await.expect("memory answers");
    assert!(keys(&new).await.is_empty() && keys(&old).await.is_empty());
}

#[tokio::test]
async fn what_is_renamed_is_here_and_gone_from_there() {
    let (new, old, both) = places();
    put(&old, "staging/u/1", b"only there").await;
    both.rename("staging/u/1", "originals/v/u").await.expect("it is there");
    assert_eq!((Some(10), None), sizes(&new, &old, "originals/v/u").await);
    assert_eq!((None, None), sizes(&new, &old, "staging/u/1").await);
    for place in [&new, &old] {
        put(place, "staging/u/2", b"in both").await;
    }
    both.rename("staging/u/2", "originals/v/w").await.expect("it is there");
    assert_eq!((Some(7), None), sizes(&new, &old, "originals/v/w").await);
    assert_eq!((None, None), sizes(&new, &old, "staging/u/2").await);
    assert!(matches!(both.rename("staging/u/3", "originals/v/u").await, Err(ObjectError::NotFound)));
}

#[tokio::test]
async fn what_was_renamed_here_is_not_replaced_by_an_older_copy_from_there() {
    let (new, old, both) = places();
    put(&new, "originals/v/u", b"all of it").await;
    put(&old, "staging/u/1", b"half").await;
    both.rename("staging/u/1", "originals/v/u").await.expect("it is renamed already");
    assert_eq!((Some(9), None), sizes(&new, &old, "originals/v/u").await);
    assert_eq!((None, None), sizes(&new, &old, "staging/u/1").await);
}

#[tokio::test]
async fn keys_and_folders_are_those_of_both() {
    let (new, old, both) = places();
    put(&new, "staging/a/1", b"x").await;
    put(&new, "staging/b/1", b"x").await;
    put(&old, "staging/b/1", b"x").await;
    put(&old, "staging/c/1", b"x").await;
    assert_eq!(["staging/a/1", "staging/b/1", "staging/c/1"], *keys(&both).await);
    assert_eq!(["staging/a", "staging/b", "staging/c"], *both.folders("staging").await.expect("memory answers"));
    let walked: Vec<String> = both.keys().try_collect().await.expect("memory answers");
    assert!(["staging/a/1", "staging/b/1", "staging/c/1"].iter().all(|key| walked.iter().any(|it| it == key)));
}
