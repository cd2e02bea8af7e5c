//! A page: one HTML file that loads nothing, with plots and the numbers behind them.
//!
//! Everything is in the file: styles and script are admitted by their hashes, all else is forbidden
//! by the page's own policy, so that no text of a model or data set can become anything but text.
//! Without the script nothing is missing but the values under the pointer.

mod axis;
mod plot;
mod table;
mod text;

use sha2::{Digest, Sha256};

pub(super) use axis::{Axis, Unit};
pub(super) use plot::{Mark, Plot, Point, Rule, Series, Style};
pub(super) use table::{Cell, Table};
pub(super) use text::{entries, escaped};

use text::paragraph;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// A page that grows from top to bottom.
pub(super) struct Page {
    title: String,
    lead: String,
    body: String,
    sections: Vec<(String, String)>,
}

impl Page {
    /// `lead` is one sentence below the title; both are plain text.
    pub(super) fn new(title: &str, lead: &str) -> Self {
        Self {
            title: escaped(title),
            lead: escaped(lead),
            body: String::new(),
            sections: Vec::new(),
        }
    }

    /// Begins a section; plain text.
    pub(super) fn section(&mut self, title: &str) {
        let id = format!("s{}", self.sections.len() + 1);
        let title = escaped(title);
        self.body += &format!("<h2 id=\"{id}\">{title}</h2>\n");
        self.sections.push((id, title));
    }

    /// A heading within a section; plain text.
    pub(super) fn heading(&mut self, title: &str) {
        self.body += &format!("<h3>{}</h3>\n", escaped(title));
    }

    /// Markup that is known to be well formed, as [`Plot::html`] makes it.
    pub(super) fn add(&mut self, html: &str) {
        self.body += html;
        self.body.push('\n');
    }

    /// A paragraph of plain text.
    pub(super) fn say(&mut self, text: &str) {
        self.add(&paragraph(text));
    }

    /// What made the page, as it is typed.
    pub(super) fn command(&mut self, command: &str) {
        self.add(&format!("<pre><code>{}</code></pre>", escaped(command)));
    }

    /// Plots beside each other where there is room.
    pub(super) fn plots(&mut self, plots: &[Plot]) {
        let plots = plots.iter().filter(|plot| !plot.is_empty());
        let figures: Vec<String> = plots.map(Plot::html).collect();
        if !figures.is_empty() {
            self.add(&format!(
                "<div class=\"plots\">\n{}\n</div>",
                figures.join("\n")
            ));
        }
    }

    /// The whole file.
    pub(super) fn html(&self) -> String {
        let contents = match self.sections.len() {
            0..=2 => String::new(),
            _ => {
                let links = self
                    .sections
                    .iter()
                    .map(|(id, title)| format!("<a href=\"#{id}\">{title}</a>"));
                let links: Vec<String> = links.collect();
                format!("<nav aria-label=\"Sections\">{}</nav>\n", links.join("\n"))
            }
        };
        let Self {
            title, lead, body, ..
        } = self;
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <meta name=\"referrer\" content=\"no-referrer\">\n\
             <link rel=\"icon\" href=\"data:,\">\n<title>{title}</title>\n\
             <style>{STYLE}</style>\n</head>\n<body>\n\
             <header>\n<h1>{title}</h1>\n<p class=\"lead\">{lead}</p>\n{contents}</header>\n\
             <main>\n{body}</main>\n\
             <footer>Made by onnx-prune {version}. The file loads nothing and sends nothing.</footer>\n\
             <div id=\"tip\" role=\"status\" aria-live=\"polite\" hidden></div>\n\
             <script>{SCRIPT}</script>\n</body>\n</html>",
            policy = policy(),
            version = env!("CARGO_PKG_VERSION"),
        )
    }
}

/// What the page may do: show itself.
fn policy() -> String {
    format!(
        "default-src 'none'; style-src '{}'; script-src '{}'; img-src data:; base-uri 'none'; form-action 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
}

/// The hash of an element's text, as policies write it.
fn hash(text: &str) -> String {
    format!("sha256-{}", base64(&Sha256::digest(text)))
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let padded = [
            group[0],
            *group.get(1).unwrap_or(&0),
            *group.get(2).unwrap_or(&0),
        ];
        let bits = u32::from_be_bytes([0, padded[0], padded[1], padded[2]]);
        for place in 0..4 {
            let letter = (bits >> (18 - 6 * place)) & 63;
            text.push(match place <= group.len() {
                true => char::from(LETTERS[letter as usize]),
                false => '=',
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        let cases = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ];
        for (text, expected) in cases {
            assert_eq!(base64(text.as_bytes()), expected);
        }
    }

    #[test]
    fn a_page_admits_its_own_style_and_script_alone() {
        let mut page = Page::new("<b>&\"", "lead");
        page.say("</script><img src=x onerror=alert(1)>");
        let html = page.html();
        let policy = html.split("content=\"").nth(1).unwrap();
        assert!(policy.starts_with("default-src 'none'"));
        assert!(policy.contains(&hash(STYLE)) && policy.contains(&hash(SCRIPT)));
        assert!(html.contains("<title>&lt;b&gt;&amp;&quot;</title>"));
        assert_eq!(html.matches("<script").count(), 1);
        assert_eq!(html.matches("<img").count(), 0);
        for word in ["http:", "https:", "url(", "@import", " style=", " onclick="] {
            assert!(!html.contains(word), "{word}");
        }
    }
}
