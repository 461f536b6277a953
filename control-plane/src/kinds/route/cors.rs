//! Cross-origin resource sharing (Fetch Standard, "CORS protocol"; GEP-1767).

use std::sync::Arc;
use std::time::Duration;

use weft_model::route::cors::Cors;

use super::matching::METHODS;
use super::reader::{header_name, host_name, number, port, unknown};
use super::schema;
use crate::kinds::field_error::FieldError;

const ALL: &str = "*";
/// Seconds that browsers are told when a route doesn't say it.
const DEFAULT_MAX_AGE: i64 = 5;

/// The filter that is written.
pub(super) fn cors(field: &str, cors: schema::Cors) -> Result<Cors, FieldError> {
    let credentials = cors.allow_credentials.unwrap_or_default();
    let origins = list(field, "allowOrigins", cors.allow_origins, origin)?;
    let methods = list(
        field,
        "allowMethods",
        cors.allow_methods,
        |field, name| match METHODS.contains(&name) {
            true => Ok(name.into()),
            false => unknown(field, name, &METHODS),
        },
    )?;
    let name = |field: &str, name: &str| {
        let read = header_name(field, name)?;
        Ok(read.as_str().into())
    };
    let headers = list(field, "allowHeaders", cors.allow_headers, name)?;
    let exposed = list(field, "exposeHeaders", cors.expose_headers, name)?;
    // Browsers take the star for the name of a header then, and there is no request to
    // name what it stands for.
    if credentials && exposed.iter().any(|name| **name == *ALL) {
        let message = "`*` can't be used together with allowCredentials; name the headers";
        return Err(FieldError::new(format!("{field}.exposeHeaders"), message));
    }
    let most = i32::MAX.unsigned_abs();
    let max_age = cors.max_age.unwrap_or(DEFAULT_MAX_AGE);
    let max_age = number(format!("{field}.maxAge"), max_age, 1, most)?;
    Ok(Cors {
        allow_origins: origins,
        allow_credentials: credentials,
        allow_methods: methods,
        allow_headers: headers,
        expose_headers: exposed,
        max_age: Duration::from_secs(max_age.into()),
    })
}

/// A list whose items `read` reads, or that has a star alone.
fn list(
    field: &str,
    name: &str,
    items: Option<Vec<String>>,
    read: impl Fn(&str, &str) -> Result<Arc<str>, FieldError>,
) -> Result<Vec<Arc<str>>, FieldError> {
    let items = items.unwrap_or_default();
    let is_alone = items.len() == 1;
    let items = items.iter().enumerate().map(|(index, item)| {
        let field = format!("{field}.{name}[{index}]");
        match (item.as_str(), is_alone) {
            (ALL, true) => Ok(ALL.into()),
            (ALL, false) => {
                let message = "`*` stands for all, so it stands alone";
                Err(FieldError::new(field, message))
            }
            (item, _) => read(&field, item),
        }
    });
    items.collect()
}

/// `scheme://host` or `scheme://host:port`; the host may be a star, or begin with one.
/// Browsers leave out the port that is the scheme's own, so it is left out here.
fn origin(field: &str, text: &str) -> Result<Arc<str>, FieldError> {
    let invalid = || {
        let message = format!(
            "`{text}` is not an origin such as `https://example.com`, `http://example.com:8080` or `https://*.example.com`"
        );
        FieldError::new(field, message)
    };
    let (scheme, authority) = text.split_once("://").ok_or_else(invalid)?;
    let own = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return Err(invalid()),
    };
    let (host, number) = match authority.split_once(':') {
        None => (authority, None),
        Some((host, number)) => {
            let number = number.parse().map_err(|_| invalid())?;
            (host, Some(port(field.to_owned(), number)?))
        }
    };
    let name = host.strip_prefix("*.").unwrap_or(host).to_ascii_lowercase();
    let is_address = name.parse::<std::net::Ipv4Addr>().is_ok();
    if host != ALL && !is_address && host_name(field, &name).is_err() {
        return Err(invalid());
    }
    let host = host.to_ascii_lowercase();
    Ok(match number.filter(|number| *number != own) {
        None => format!("{scheme}://{host}").into(),
        Some(number) => format!("{scheme}://{host}:{number}").into(),
    })
}
