//! Which names the server accepts: DNS-1123 names, qualified names, label values.

/// Checks one name; the answer says what is wrong with it, in the real server's words.
pub type NameRule = fn(&str) -> Option<String>;

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
     '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
     start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";

const NAME_PART: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end \
     with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
     '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
     '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex \
     used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

fn longer_than(text: &str, longest: usize) -> Option<String> {
    (text.len() > longest).then(|| format!("must be no more than {longest} characters"))
}

fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty() && text.chars().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// A namespace's name.
pub fn dns_label(text: &str) -> Option<String> {
    longer_than(text, 63).or_else(|| (!is_label(text)).then(|| LABEL.into()))
}

/// The name of most objects.
pub fn dns_subdomain(text: &str) -> Option<String> {
    longer_than(text, 253).or_else(|| (!text.split('.').all(is_label)).then(|| SUBDOMAIN.into()))
}

/// The name of an event: anything that can be one segment of a path.
pub fn path_segment(text: &str) -> Option<String> {
    if text == "." || text == ".." {
        return Some(format!("may not be '{text}'"));
    }
    let forbidden = ['/', '%'].into_iter().find(|c| text.contains(*c));
    forbidden.map(|c| format!("may not contain '{c}'")).or_else(|| longer_than(text, 253))
}

fn is_name_part(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    text.chars().all(inner) && edge(text.chars().next()) && edge(text.chars().last())
}

/// The key of a label or an annotation, or a finalizer: `name` or `domain/name`.
pub fn qualified_name(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.split('/').collect();
    let name = match parts.as_slice() {
        [name] => name,
        ["", _] => return Some("prefix part must be non-empty".into()),
        [prefix, name] => match dns_subdomain(prefix) {
            Some(why) => return Some(format!("prefix part {why}")),
            None => name,
        },
        _ => return Some("a qualified name must consist of a name and an optional prefix".into()),
    };
    if name.is_empty() {
        return Some("name part must be non-empty".into());
    }
    longer_than(name, 63)
        .map(|why| format!("name part {why}"))
        .or_else(|| (!is_name_part(name)).then(|| NAME_PART.into()))
}

pub fn label_value(text: &str) -> Option<String> {
    longer_than(text, 63).or_else(|| (!text.is_empty() && !is_name_part(text)).then(|| LABEL_VALUE.into()))
}
