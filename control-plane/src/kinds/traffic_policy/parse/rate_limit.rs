//! How often a Service may be asked.

use std::time::Duration;

use weft_model::NamespacedName;
use weft_model::traffic::{DescriptorEntry, GlobalRateLimit, LocalRateLimit};

use super::field::{At, Result, SECOND};
use crate::kinds::field_error::FieldError;
use crate::kinds::traffic_policy::schema::{EntrySpec, GlobalRateLimitSpec, RateSpec};

/// The fields of a rate: requests, interval and burst.
pub(super) type RateFields = [At; 3];

pub(super) const LOCAL: RateFields = [
    At("spec.rateLimit.local.requests"),
    At("spec.rateLimit.local.interval"),
    At("spec.rateLimit.local.burst"),
];
pub(super) const INSTANCE: RateFields = [
    At("spec.rateLimit.instance.requests"),
    At("spec.rateLimit.instance.interval"),
    At("spec.rateLimit.instance.burst"),
];

pub(super) fn rate(fields: &RateFields, spec: Option<RateSpec>) -> Result<Option<LocalRateLimit>> {
    let [requests, interval, burst] = fields;
    let Some(spec) = spec else {
        return Ok(None);
    };
    let requests = requests.within(spec.requests, 1, u32::MAX)?;
    let burst = burst.at_least(spec.burst, 1)?;
    Ok(Some(LocalRateLimit {
        requests,
        interval: interval.positive(spec.interval, SECOND)?,
        burst: burst.unwrap_or(requests),
    }))
}

pub(super) fn global(namespace: &str, spec: GlobalRateLimitSpec) -> Result<GlobalRateLimit> {
    let server = spec.server.map(|server| -> Result<_> {
        let at = At("spec.rateLimit.global.server.port");
        let port = at.within(server.port, 1, u16::MAX.into())?;
        let namespace = server.namespace.as_deref().unwrap_or(namespace);
        let service = NamespacedName::new(namespace, &server.name);
        Ok((service, u16::try_from(port).unwrap_or_default()))
    });
    let limit = spec.limit.map(|limit| -> Result<_> {
        let requests = At("spec.rateLimit.global.limit.requests");
        let requests = requests.within(limit.requests, 1, u32::MAX)?;
        let at = At("spec.rateLimit.global.limit.interval");
        let interval = at.positive(limit.interval, SECOND)?;
        // What the protocol has units for.
        match interval.as_secs() {
            1 | 60 | 3600 | 86400 if interval.subsec_nanos() == 0 => Ok(LocalRateLimit {
                requests,
                interval,
                burst: requests,
            }),
            _ => Err(at.error("neither 1s, 1m, 1h nor 24h, which are all that servers know")),
        }
    });
    if spec.domain.is_empty() {
        let why = "servers look their limits up in it";
        return Err(FieldError::missing("spec.rateLimit.global.domain", why));
    }
    let descriptors = spec.descriptors.into_iter().enumerate();
    let descriptors = descriptors.map(|(index, descriptor)| {
        let entries = descriptor.entries.into_iter().enumerate();
        let entries = entries.map(|(number, spec)| {
            let path = format!("spec.rateLimit.global.descriptors[{index}].entries[{number}]");
            entry(spec).map_err(|error| error.within(&path))
        });
        entries.collect::<Result<Vec<_>>>()
    });
    let descriptors = descriptors.collect::<Result<Vec<_>>>()?;
    if descriptors.is_empty() || descriptors.iter().any(Vec::is_empty) {
        let at = At("spec.rateLimit.global.descriptors");
        return Err(at.error("one descriptor at least, and one entry in each"));
    }
    let timeout = At("spec.rateLimit.global.timeout");
    let server = server.transpose()?;
    Ok(GlobalRateLimit {
        // The control plane's own service counts for each namespace by itself.
        domain: match server {
            Some(_) => spec.domain.into(),
            None => format!("{namespace}/{}", spec.domain).into(),
        },
        server,
        descriptors,
        limit: limit.transpose()?,
        timeout: timeout.positive(spec.timeout, Duration::from_millis(100))?,
        fail_open: spec.fail_open.unwrap_or(true),
    })
}

fn entry(spec: EntrySpec) -> Result<DescriptorEntry> {
    let EntrySpec {
        generic,
        header,
        source_identity,
        path,
        method,
    } = spec;
    match (generic, header, source_identity, path, method) {
        (Some(generic), None, None, None, None) => Ok(DescriptorEntry::Generic {
            key: generic.key.as_deref().unwrap_or("generic_key").into(),
            value: generic.value.into(),
        }),
        (None, Some(header), None, None, None) => Ok(DescriptorEntry::Header {
            key: header.key.as_ref().unwrap_or(&header.name).as_str().into(),
            header: At("header.name").header(&header.name)?,
        }),
        (None, None, Some(_), None, None) => Ok(DescriptorEntry::SourceIdentity),
        (None, None, None, Some(_), None) => Ok(DescriptorEntry::Path),
        (None, None, None, None, Some(_)) => Ok(DescriptorEntry::Method),
        _ => {
            let what = "is one of generic, header, sourceIdentity, path and method";
            Err(At("").error(what))
        }
    }
}
