use super::*;
use crate::viz::page::data::{Section, TunePage};

fn hostile() -> PageData {
    PageData {
        title: "</title><script>alert(1)</script>\u{202e}".to_owned(),
        discussion: vec![Section {
            title: "<!--<script>".to_owned(),
            paragraphs: vec!["</script><img src=x onerror=alert(1)>\u{2028}\u{2029}&amp;".to_owned()],
        }],
        tunes: vec![TunePage { title: "{{script}} {{data}}".to_owned(), ..TunePage::default() }],
        ..PageData::default()
    }
}

/// What stands between two texts.
fn between<'a>(page: &'a str, from: &str, to: &str) -> &'a str {
    page.split_once(from).expect(from).1.split_once(to).expect(to).0
}

#[test]
fn no_text_of_the_data_leaves_its_element() {
    let page = render(&hostile(), &RenderOptions::default());
    let json = between(&page, "id=\"data\">", "</script>");
    assert!(!json.contains(['<', '>', '&', '\u{2028}', '\u{2029}']), "{json}");
    let read: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(read, serde_json::to_value(hostile()).unwrap());
    assert_eq!(page.matches("<script").count(), 2, "the data and the script");
    assert_eq!(page.matches("<title>").count(), 1);
    let title = between(&page, "<title>", "</title>");
    assert!(!title.contains(['<', '\u{202e}']), "{title}");
}

#[test]
fn the_policy_has_the_hash_of_every_style_and_script_and_no_other_source() {
    let source = "var a = '</SCRIPT>', b = '<!-- <script>', c = 1<script;\r\nvar d = '\0';";
    for abcjs in [None, Some(source.to_owned())] {
        let with = abcjs.is_some();
        let page = render(&hostile(), &RenderOptions { abcjs });
        let policy = between(&page, "Content-Security-Policy\" content=\"", "\">");
        assert!(policy.starts_with("default-src 'none';"), "{policy}");
        assert!(policy.contains(&hash(between(&page, "<style>", "</style>"))), "{policy}");
        let script = page.rsplit_once("<script>").unwrap().1.split_once("</script>").unwrap().0;
        assert!(policy.contains(&hash(script)), "{policy}");
        assert_eq!(policy.contains("https:"), !with, "{policy}");
        if with {
            let inlined = between(&page, "id=\"abcjs\">", "</script>");
            assert_eq!(
                inlined,
                "var a = '\\x3c/SCRIPT>', b = '\\x3c!-- <script>', c = 1<script;\nvar d = '\u{fffd}';"
            );
            assert!(policy.contains(&hash(inlined)), "{policy}");
        }
    }
}
