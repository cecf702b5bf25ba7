//! The shells a run keeps for those it becomes, and accounts that change meanwhile.

use crate::kit::Case;

tests!(accounts_change_under_a_session);

fn accounts_change_under_a_session() {
    let c = Case::new("sessions").tasks(
        "
        - {name: made, user: {name: guest}}
        - {name: before, become: true, become_user: guest, command: id -Gn, register: before}
        - {name: group, group: {name: wheelers}}
        - {name: joins, user: {name: guest, groups: [wheelers], append: true}}
        - {name: after, become: true, become_user: guest, command: id -Gn, register: after}
        - {name: groups, assert: {that: [eq before.stdout \"guest\", eq after.stdout \"guest wheelers\"]}}
        - {name: gone, user: {name: guest, state: absent, remove: true}}
        ",
    );
    c.apply().exits(0).changed(6);
    c.on_node("! id guest").succeeds();
}
