//! `onceway keys list`: pages of the gateway's list, followed until there are enough or no more.

use std::fmt::Write as _;

use clap::Args;
use http::Method;
use url::form_urlencoded::Serializer;

use super::call::{Call, CallError, Caller, Carries};
use super::operation::Page;
use super::{KeysError, Seat, shown, while_asking, write_json};
use crate::clock;

/// Operations on a page at most, as the gateway has it.
const PAGE_MAX: usize = 500;

/// What `list` can be told.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// Only those in this state
    #[arg(long, value_parser = ["in-flight", "done", "done-without-body", "unknown"])]
    state: Option<String>,
    /// Only those of the route with this path pattern
    #[arg(long, value_name = "PATTERN")]
    route: Option<String>,
    /// How many at most
    #[arg(long, value_name = "N", default_value = "100", value_parser = at_least_one)]
    limit: usize,
    /// Go on after an earlier list: what it told as its cursor
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

fn at_least_one(text: &str) -> Result<usize, &'static str> {
    text.parse().ok().filter(|count| *count > 0).ok_or("expected a whole number from 1")
}

impl ListArgs {
    pub(super) async fn run(
        &self,
        caller: &Caller,
        json: bool,
        seat: &mut Seat<'_>,
    ) -> Result<(), KeysError> {
        let all = self.gather(caller).await.map_err(while_asking("list operations"))?;
        if json { write_json(seat, &all) } else { Ok(seat.out.write_all(self.report(&all).as_bytes())?) }
    }

    async fn gather(&self, caller: &Caller) -> Result<Page, CallError> {
        let mut all = Page { next: self.cursor.clone(), ..Page::default() };
        loop {
            let missing = self.limit.saturating_sub(all.operations.len());
            let target = self.target(all.next.as_deref(), missing.min(PAGE_MAX));
            let call = Call { method: Method::GET, target, body: Vec::new(), carries: Carries::Nothing };
            let page: Page = caller.read(call).await?;
            all.operations.extend(page.operations);
            all.looked_through = all.looked_through.saturating_add(page.looked_through);
            all.next = page.next;
            if all.next.is_none() || all.operations.len() >= self.limit {
                return Ok(all);
            }
        }
    }

    fn target(&self, cursor: Option<&str>, limit: usize) -> String {
        let mut query = Serializer::new(String::new());
        for (name, value) in
            [("state", self.state.as_deref()), ("route", self.route.as_deref()), ("cursor", cursor)]
        {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        query.append_pair("limit", &limit.to_string());
        format!("/v1/operations?{}", query.finish())
    }

    fn report(&self, all: &Page) -> String {
        let mut text = shown::table(&all.operations, clock::wall());
        if !text.is_empty() {
            text.push('\n');
        }
        let state = self.state.as_ref().map_or_else(String::new, |state| format!(" {state}"));
        let (count, looked_through) = (all.operations.len(), all.looked_through);
        let records = if looked_through == 1 { "record" } else { "records" };
        let noun = if count == 1 { "operation" } else { "operations" };
        let count = if count == 0 { "no".to_owned() } else { count.to_string() };
        // Writing to a String does not fail.
        let _ok = writeln!(text, "{count}{state} {noun}; {looked_through} {records} looked through");
        if let Some(cursor) = &all.next {
            let _ok =
                writeln!(text, "there may be more: --limit for a longer list, --cursor {cursor} to go on");
        }
        text
    }
}
