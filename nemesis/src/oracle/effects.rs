//! Effects outside the platform, against the jobs that had them.

use crate::Failure;
use crate::effects::{ByJob, Effect};
use crate::findings::Findings;
use crate::history::{Entry, Outcome};
use crate::oracle::Rows;

/// Every acknowledged job is done and has left its mark; it is done by an attempt whose mark was taken;
/// nobody left a mark who had not claimed the job.
pub(super) fn check(history: &[Entry], effects: &ByJob, rows: &Rows, findings: &Findings) -> Result<(), Failure> {
    let acknowledged = history.iter().filter(|it| it.call == "enqueue" && it.outcome == Outcome::Acknowledged);
    for id in acknowledged.filter_map(|entry| entry.value.as_deref()) {
        let state = rows.job(id)?.map(|(state, _)| state);
        findings.demand(state.as_deref() == Some("done"), || format!("{id} was acknowledged and is {state:?}"));
        findings.demand(effects.contains_key(id), || format!("{id} was acknowledged and had no effect"));
    }
    for (id, marks) in effects {
        let Some((_, attempts)) = rows.job(id)? else {
            findings.add(format!("{id} had an effect and has no row"));
            continue;
        };
        let claimed = |mark: &Effect| attempts.iter().any(|attempt| attempt.token == mark.token);
        findings.demand(marks.iter().all(claimed), || format!("{id}: {marks:?} are not all of {attempts:?}"));
        let done: Vec<_> = attempts.iter().filter(|it| it.outcome.as_deref() == Some("done")).collect();
        let by_its_mark = done.iter().all(|it| marks.iter().any(|mark| mark.taken && mark.token == it.token));
        findings.demand(done.len() <= 1 && by_its_mark, || format!("{id} is done by {done:?} with {marks:?}"));
    }
    Ok(())
}
