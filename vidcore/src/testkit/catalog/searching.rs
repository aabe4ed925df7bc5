//! Claims about the search.

use std::collections::HashSet;

use crate::catalog::{SearchTerms, VideoPatch, Visibility};
use crate::id::VideoId;
use crate::testkit::catalog::{change, ids, titled, trash};
use crate::testkit::videos::VideoHarness;

async fn found(h: &VideoHarness, text: &str) -> Vec<VideoId> {
    let terms = SearchTerms::parse(text).expect("the text holds a word");
    let videos = h.store.search_videos(&terms, 0, 50).await.expect("the store answers");
    videos.into_iter().map(|video| video.id).collect()
}

/// Every word must be there; the last one may still be typed.
pub async fn a_search_finds_the_beginning_of_the_last_word(h: &VideoHarness) {
    let video = h.listed(h.user().await, "Mountain railway in winter").await;
    for text in ["m", "rail", "winter mountain", "mountain rail"] {
        assert_eq!(vec![video.id], found(h, text).await, "{text}");
    }
    for text in ["ountain", "rail mountain", "mountain summer"] {
        assert!(found(h, text).await.is_empty(), "{text}");
    }
}

/// As a person on any keyboard types it, composed or not.
pub async fn a_search_ignores_case_and_diacritics(h: &VideoHarness) {
    let video = h.listed(h.user().await, "Résumé of the ÜBERFAHRT").await;
    for text in ["resume", "RÉSUMÉ", "re\u{301}sume\u{301} of", "überfahrt", "Uberfahrt"] {
        assert_eq!(vec![video.id], found(h, text).await, "{text}");
    }
}

/// No operator of the index's language means anything.
pub async fn query_grammar_typed_by_a_person_is_text(h: &VideoHarness) {
    let video = h.listed(h.user().await, "near or not and title").await;
    for text in
        ["\"*()-:^NEAR OR", "title:near", "NEAR(or, no)", "not -near", "near* AND^ title", "{near} + or", "'near'"]
    {
        assert_eq!(vec![video.id], found(h, text).await, "{text}");
    }
    assert!(found(h, "title OR absent").await.is_empty(), "OR is a word like any other");
    let odd = "\u{0}near\u{2028}\u{feff}";
    assert_eq!(vec![video.id], found(h, odd).await);
    for text in ["ⅷ", "²", "𝔫𝔢𝔞𝔯", "١٢٣", "🂡z"] {
        assert!(found(h, text).await.is_empty(), "{text}");
    }
}

/// Where the word stands decides, not how often.
pub async fn a_title_is_worth_more_than_a_description(h: &VideoHarness) {
    let owner = h.user().await;
    let titled = h.listed(owner, "Otter").await;
    let mut new = h.new_video(owner, "Animals");
    new.description = "otter, otter and once more the otter".to_owned();
    let described = h.playable(new).await;
    let mut new = h.new_video(owner, "Rivers");
    new.tags = vec!["otter".to_owned()];
    let tagged = h.playable(new).await;
    let order = found(h, "otter").await;
    assert_eq!(titled.id, order[0]);
    assert_eq!(HashSet::from([described.id, tagged.id]), order[1..].iter().copied().collect());
}

/// The index holds every video; the answer does not.
pub async fn a_search_finds_listed_videos_alone(h: &VideoHarness) {
    let owner = h.user().await;
    let listed = h.listed(owner, "Needle").await;
    h.draft(owner, "Needle draft").await;
    for visibility in [Visibility::Unlisted, Visibility::Private] {
        let mut new = h.new_video(owner, "Needle hidden");
        new.visibility = visibility;
        h.playable(new).await;
    }
    let gone = h.listed(owner, "Needle gone").await;
    trash(h, &gone).await;
    assert_eq!(vec![listed.id], found(h, "needle").await);
}

/// The index follows the row.
pub async fn a_changed_title_is_found_and_the_old_one_is_not(h: &VideoHarness) {
    let video = h.listed(h.user().await, "Alpha").await;
    let patched = change(h, &video, titled("Omega")).await;
    assert!(found(h, "alpha").await.is_empty());
    assert_eq!(vec![video.id], found(h, "omega").await);
    change(h, &patched, VideoPatch { tags: Some(vec!["delta".to_owned()]), ..VideoPatch::default() }).await;
    assert_eq!(vec![video.id], found(h, "omega delta").await);
}

/// Pages of a list that stands still join up.
pub async fn a_search_is_paged_by_offset(h: &VideoHarness) {
    let owner = h.user().await;
    for number in 0..5 {
        h.listed(owner, &format!("Episode {number}")).await;
    }
    let all = found(h, "episode").await;
    let terms = SearchTerms::parse("episode").expect("a word");
    let mut paged = Vec::new();
    for offset in [0, 2, 4, 6] {
        paged.extend(ids(&h.store.search_videos(&terms, offset, 2).await.expect("the store answers")));
    }
    assert_eq!((5, all), (paged.len(), paged));
}
