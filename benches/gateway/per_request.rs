//! Processor time per request, of everything that can be asked of everybody: the rows of the large table.

use super::Failure;
use super::bars::Held;
use super::extent::Extent;
use super::measure::{CONNECTIONS, WARM_UP, let_it_pass, sample};
use super::round_trips;
use super::site::Site;
use super::subjects::{self, Subject};
use super::table::{self, Row};
use super::work::{Role, Work};

/// The rows, and who is measured for them.
pub(super) struct PerRequest<'a> {
    site: &'a Site,
    extent: &'a Extent,
    subjects: Vec<Subject>,
    cases: Vec<Case>,
    rows: Vec<Row>,
    /// A word for each thing that could not be measured.
    left_out: Vec<String>,
}

/// Whom a row is about, and what is asked.
struct Case {
    subject: usize,
    work: Work,
    is_left_out: bool,
}

impl<'a> PerRequest<'a> {
    /// Starts everybody who is asked something, if anybody is.
    pub(super) async fn start(site: &'a Site, extent: &'a Extent) -> Result<Option<Self>, Failure> {
        let (subjects, left_out) = subjects::start(site).await?;
        let cases = cases(&subjects, extent);
        if cases.is_empty() {
            return Ok(None);
        }
        let rows = rows(&cases, &subjects);
        Ok(Some(Self { site, extent, subjects, cases, rows, left_out }))
    }

    /// Measures each row once.
    pub(super) async fn round(&mut self, round: usize) -> Result<(), Failure> {
        for (case, row) in self.cases.iter_mut().zip(&mut self.rows) {
            let subject = self.subjects.get(case.subject).ok_or("a case names no subject")?;
            if case.is_left_out {
                continue;
            }
            let prefix = format!("round-{round}-{}", case.subject);
            let warm_up =
                subject.plan(case.work, &format!("{prefix}-{:?}-warm", case.work), WARM_UP, self.extent.each);
            let prefix = format!("{prefix}-{:?}", case.work);
            let plan = subject.plan(case.work, &prefix, self.extent.requests, self.extent.each);
            match sample(&subject.server, CONNECTIONS, [&warm_up, &plan], self.site).await {
                Ok(sample) => row.samples.push(sample),
                // The other gateway's mistakes are no reason to stop.
                Err(error) if subject.role == Role::Peer => {
                    case.is_left_out = true;
                    self.left_out.push(format!("{}, {} is left out: {error}", row.work, row.by));
                    let_it_pass().await;
                }
                Err(error) => return Err(format!("{}, {}: {error}", row.work, row.by).into()),
            }
        }
        Ok(())
    }

    /// The table, what could not be measured, and how often Redis was asked.
    pub(super) async fn report(&self) -> Result<String, Failure> {
        let mut report = table::render(&self.rows)?;
        for word in &self.left_out {
            report.push_str(word);
            report.push('\n');
        }
        report.push('\n');
        report.push_str(&round_trips::count(&self.subjects, self.site).await?);
        Ok(report)
    }

    pub(super) fn held(&self) -> Vec<Held> {
        let held = self.cases.iter().zip(&self.rows).filter_map(|(case, row)| {
            let subject = self.subjects.get(case.subject)?;
            let reference = self.rows.get(row.reference).filter(|_| !row.samples.is_empty())?;
            Some(Held {
                work: format!("{}, {}", row.work, row.by),
                measured: format!("{:.1} µs", row.median_micros()),
                reference: format!("{}: {:.1} µs", reference.work, reference.median_micros()),
                value: row.ratio_to(reference),
                unit: "",
                bar: case.work.bar(subject.role, subject.name)?,
            })
        });
        held.collect()
    }
}

/// The lines of the table in its order.
fn cases(subjects: &[Subject], extent: &Extent) -> Vec<Case> {
    let mut cases = Vec::new();
    for work in Work::ALL {
        for (number, subject) in subjects.iter().enumerate() {
            let is_chosen = extent.chooses(subject.name) || extent.chooses(work.title());
            if subject.role.does(work) && (is_chosen || subject.role == Role::Nginx) {
                cases.push(Case { subject: number, work, is_left_out: false });
            }
        }
    }
    // References alone are nothing to look at.
    let is_ours = |case: &Case| subjects.get(case.subject).is_some_and(|subject| subject.role != Role::Nginx);
    if cases.iter().any(is_ours) || extent.chooses("nginx") { cases } else { Vec::new() }
}

fn rows(cases: &[Case], subjects: &[Subject]) -> Vec<Row> {
    let role = |case: &Case| subjects.get(case.subject).map(|subject| subject.role);
    let reference = |work: Work| {
        let is_it = |case: &Case| case.work == work.reference() && role(case) == Some(Role::Nginx);
        cases.iter().position(is_it).unwrap_or_default()
    };
    let row = |case: &Case| Row {
        work: case.work.title(),
        by: subjects.get(case.subject).map_or("", |subject| subject.name),
        reference: reference(case.work),
        samples: Vec::new(),
    };
    cases.iter().map(row).collect()
}
